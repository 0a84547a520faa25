/** Synthetic people by number. Faker's seed is fixed, so person 17 is the same in every run. */
import { type Faker, fakerAR, fakerDE, fakerEN_US, fakerES, fakerFR, fakerPL, fakerVI, fakerZH_CN } from "@faker-js/faker";
import type { PatientRecord, Sex } from "../../services/patient/src/tables.ts";

const seed = 20_261_121;
/** The last person registers at this moment. */
const until = Date.UTC(2026, 10, 20);
const span = 3 * 365 * 86_400_000;

/** Locales, and how many of eight common people have names from there. */
const locales: [Faker, number][] = [
  [fakerEN_US, 5],
  [fakerES, 1],
  [fakerDE, 1],
  [fakerFR, 1],
];
/** One of twenty people has a name in another script or with many diacritics. */
const rare = [fakerPL, fakerVI, fakerAR, fakerZH_CN];

type Pool = { female: string[]; male: string[]; last: string[]; inOneWord: boolean };

function makePool(faker: Faker): Pool {
  faker.seed(seed);
  const many = (make: () => string, tries: number) => [...new Set(Array.from({ length: tries }, make))];
  return {
    female: many(() => faker.person.firstName("female"), 1_500),
    male: many(() => faker.person.firstName("male"), 1_500),
    last: many(() => faker.person.lastName(), 3_000),
    inOneWord: faker === fakerZH_CN,
  };
}

const common = locales.flatMap(([faker, share]) => Array<Pool>(share).fill(makePool(faker)));
const others = rare.map(makePool);
fakerEN_US.seed(seed);
const streets = Array.from({ length: 3_000 }, () => fakerEN_US.location.street());
const places = Array.from({ length: 800 }, () => {
  const state = fakerEN_US.location.state({ abbreviated: true });
  return { city: fakerEN_US.location.city(), state, zipCode: fakerEN_US.location.zipCode("#####") };
});

/** Pseudo-random numbers that only depend on `index` (splitmix32). */
function createRandom(index: number): (below: number) => number {
  let state = (index * 2_654_435_761 + seed) | 0;
  return (below) => {
    state = (state + 0x9e3779b9) | 0;
    let mixed = state ^ (state >>> 16);
    mixed = Math.imul(mixed, 0x21f0aaad);
    mixed ^= mixed >>> 15;
    mixed = Math.imul(mixed, 0x735a2d97);
    return ((mixed ^ (mixed >>> 15)) >>> 0) % below;
  };
}

const pick = <T>(values: readonly T[], random: (below: number) => number): T => values[random(values.length)] as T;
const day = (time: number) => new Date(time).toISOString().slice(0, 10);
const hex = (value: number, digits: number) => value.toString(16).padStart(digits, "0");

type SeededRecord = PatientRecord & Required<Pick<PatientRecord, "email" | "address">>;
export type Person = { id: string; at: Date; record: SeededRecord };

/** Person number `index` of `count`. People register in the order of their numbers. */
export function personAt(index: number, count: number): Person {
  const random = createRandom(index);
  const at = new Date(until - span + Math.floor((span * (index + 1)) / count));
  const pool = random(20) === 0 ? pick(others, random) : pick(common, random);
  const sex: Sex = random(100) < 51 ? "female" : "male";
  const [firstName, lastName] = [pick(pool[sex], random), pick(pool.last, random)];
  const place = pick(places, random);
  const street = `${1 + random(9_900)} ${pick(streets, random)}`;
  const ascii = (text: string) =>
    text
      .normalize("NFD")
      .replace(/[^A-Za-z]/g, "")
      .toLowerCase();
  const record: SeededRecord = {
    name: pool.inOneWord ? lastName + firstName : `${firstName} ${lastName}`,
    firstName,
    lastName,
    email: `${[ascii(firstName), ascii(lastName), index.toString(36)].filter(Boolean).join(".")}@example.${pick(["com", "org", "net"], random)}`,
    phoneNumber: `+1${200 + random(800)}555${String(random(10_000)).padStart(4, "0")}`,
    dateOfBirth: day(at.getTime() - (1 + random(95 * 365)) * 86_400_000),
    address: { text: `${street}, ${place.city}, ${place.state} ${place.zipCode}`, street, ...place },
    ...(random(50) > 0 && { sex }),
    registeredDate: day(at.getTime()),
  };
  // A UUIDv7 of the registration whose random part is derived from the number, so that every run gives the same id.
  const time = hex(at.getTime(), 12);
  const [a, b, c] = [random(2 ** 12), random(2 ** 14), random(2 ** 32)];
  const id = `${time.slice(0, 8)}-${time.slice(8)}-7${hex(a, 3)}-${hex(0x8000 | b, 4)}-${hex(c, 8)}${hex(index & 0xffff, 4)}`;
  return { id, at, record };
}
