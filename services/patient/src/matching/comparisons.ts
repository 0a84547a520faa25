/**
 * How two patients are compared: each field by itself, and each comparison ends at a level. The model says how much a
 * level speaks for one person or for two. A field that one of them does not have says nothing.
 */
import { type Features, type NameFeatures, type PlaceFeatures, weightOfWord } from "../patients/features.ts";
import { areForms } from "./nicknames.ts";
import { isOneEditAway, jaroWinkler, sharedWords } from "./similarity.ts";

/** The levels of each field, from what speaks most for one person to what speaks least. */
export const levels = {
  given: ["same", "nickname", "initial", "nearly", "similar", "different"],
  family: ["same", "nearly", "similar", "different"],
  /** Whether the given name of one is compared with the family name of the other. */
  nameOrder: ["straight", "swapped"],
  dateOfBirth: ["same", "partly known", "transposed", "nearly", "two parts", "same year", "different"],
  houseNumber: ["same", "nearly", "different"],
  street: ["same", "nearly", "similar", "different"],
  city: ["same", "nearly", "different"],
  zipCode: ["same", "nearly", "different"],
  state: ["same", "different"],
  phone: ["same", "nearly", "different"],
  email: ["same", "nearly", "different"],
  sex: ["same", "different"],
} as const;

export type Field = keyof typeof levels;
export const fields = Object.keys(levels) as Field[];
type Level<Of extends Field> = (typeof levels)[Of][number];

/**
 * The level of each field that both have. `given` and `family` are the names that were compared, if they are the same.
 */
export type Comparison = { [Of in Field]?: Level<Of> } & { sameGiven?: string; sameFamily?: string };

function givenLevel(one: string, other: string): Level<"given"> {
  if (one === other) return "same";
  const [first = "", others = ""] = [one.split(" ")[0], other.split(" ")[0]];
  if (areForms(first, others)) return "nickname";
  if (first === others && first.length > 1) return "nearly";
  if ((first.length === 1 || others.length === 1) && first[0] === others[0]) return "initial";
  const similarity = jaroWinkler(one, other);
  if (similarity >= 0.88 || isOneEditAway(one, other)) return "nearly";
  return similarity >= 0.8 ? "similar" : "different";
}

function familyLevel(one: string, other: string): Level<"family"> {
  if (one === other) return "same";
  const similarity = jaroWinkler(one, other);
  if (similarity >= 0.88 || isOneEditAway(one, other)) return "nearly";
  // A double name and one of its halves.
  const isPart = one.includes(" ") !== other.includes(" ") && (one.split(" ").includes(other) || other.split(" ").includes(one));
  return similarity >= 0.8 || isPart ? "similar" : "different";
}

const rank = (field: Field, level: string | undefined): number => {
  const at = (levels[field] as readonly string[]).indexOf(level ?? "different");
  return at === -1 ? levels[field].length : at;
};

type NameComparison = Pick<Comparison, "given" | "family" | "nameOrder" | "sameGiven" | "sameFamily">;

function compareInOrder(one: NameFeatures, other: NameFeatures, nameOrder: Level<"nameOrder">): NameComparison {
  const comparison: NameComparison = { nameOrder };
  if (one.given !== "" && other.given !== "") {
    comparison.given = givenLevel(one.given, other.given);
    if (comparison.given === "same") comparison.sameGiven = one.given;
  }
  if (one.family !== "" && other.family !== "") {
    comparison.family = familyLevel(one.family, other.family);
    if (comparison.family === "same") comparison.sameFamily = one.family;
  }
  return comparison;
}

/** The more a pair of names is alike, the smaller. */
const distance = ({ given, family }: NameComparison): number =>
  (given === undefined ? 3 : rank("given", given)) + (family === undefined ? 2 : 1.5 * rank("family", family));

function compareNames(one: NameFeatures, other: NameFeatures): NameComparison {
  const straight = compareInOrder(one, other, "straight");
  if (distance(straight) <= 3) return straight;
  const swapped = compareInOrder(one, { given: other.family, family: other.given }, "swapped");
  return distance(swapped) + 2 < distance(straight) ? swapped : straight;
}

function compareDates(one: string, other: string): Level<"dateOfBirth"> {
  if (one === other) return one.length === 8 ? "same" : "partly known";
  const shorter = Math.min(one.length, other.length);
  if (shorter < 8) return one.slice(0, shorter) === other.slice(0, shorter) ? (shorter === 4 ? "same year" : "partly known") : "different";
  const parts = (date: string) => [date.slice(0, 4), date.slice(4, 6), date.slice(6)] as const;
  const [[year, month, day], [otherYear, otherMonth, otherDay]] = [parts(one), parts(other)];
  if (year === otherYear && month === otherDay && day === otherMonth) return "transposed";
  if (isOneEditAway(one, other)) return [...one].sort().join() === [...other].sort().join() ? "transposed" : "nearly";
  const same = Number(year === otherYear) + Number(month === otherMonth) + Number(day === otherDay);
  if (same === 2) return "two parts";
  return year === otherYear ? "same year" : "different";
}

type PlaceComparison = Pick<Comparison, "houseNumber" | "street" | "city" | "zipCode" | "state">;

function similarText(one: string, other: string): "same" | "nearly" | "different" {
  if (one === other) return "same";
  return jaroWinkler(one, other) >= 0.88 ? "nearly" : "different";
}
function similarDigits(one: string, other: string): "same" | "nearly" | "different" {
  if (one === other) return "same";
  return isOneEditAway(one, other) ? "nearly" : "different";
}

function comparePlaces(one: PlaceFeatures, other: PlaceFeatures): PlaceComparison {
  const comparison: PlaceComparison = {};
  if (one.numbers.length > 0 && other.numbers.length > 0) {
    const isShared = one.numbers.some((number) => other.numbers.includes(number));
    const isNear = one.numbers.some((number) => number.length > 1 && other.numbers.some((each) => isOneEditAway(number, each)));
    comparison.houseNumber = isShared ? "same" : isNear ? "nearly" : "different";
  }
  if (one.words.length > 0 && other.words.length > 0) {
    const shared = sharedWords(one.words, other.words, weightOfWord);
    comparison.street = shared >= 0.97 ? "same" : shared >= 0.75 ? "nearly" : shared >= 0.4 ? "similar" : "different";
  }
  if (one.city !== undefined && other.city !== undefined) comparison.city = similarText(one.city, other.city);
  if (one.zipCode !== undefined && other.zipCode !== undefined) comparison.zipCode = similarDigits(one.zipCode, other.zipCode);
  if (one.state !== undefined && other.state !== undefined) comparison.state = one.state === other.state ? "same" : "different";
  return comparison;
}

/** Digits without the country code, as far as they are always known. */
const lastDigits = (phone: string) => phone.slice(-9);
const beforeAt = (email: string) => email.slice(0, email.indexOf("@"));

function emailLevel(one: string, other: string): Level<"email"> {
  if (one === other) return "same";
  return beforeAt(one) === beforeAt(other) || isOneEditAway(one, other) ? "nearly" : "different";
}

/** The best comparison of any of one list with any of the other. Undefined if one of them is empty. */
function best<Item, Result>(
  ones: Item[],
  others: Item[],
  compare: (one: Item, other: Item) => Result,
  cost: (result: Result) => number,
): Result | undefined {
  let found: Result | undefined;
  for (const one of ones)
    for (const other of others) {
      const result = compare(one, other);
      if (found === undefined || cost(result) < cost(found)) found = result;
    }
  return found;
}

const placeCost = ({ houseNumber, street, city, zipCode }: PlaceComparison): number =>
  rank("houseNumber", houseNumber) + rank("street", street) + rank("city", city) + rank("zipCode", zipCode);

export function compare(one: Features, other: Features): Comparison {
  const names = best(one.names, other.names, compareNames, distance);
  const places = best(one.places, other.places, comparePlaces, placeCost);
  const phone = best(
    one.phones,
    other.phones,
    (a, b) => similarDigits(lastDigits(a), lastDigits(b)),
    (level) => rank("phone", level),
  );
  const email = best(one.emails, other.emails, emailLevel, (level) => rank("email", level));
  return {
    ...names,
    ...(one.born !== undefined && other.born !== undefined && { dateOfBirth: compareDates(one.born, other.born) }),
    ...places,
    ...(phone && { phone }),
    ...(email && { email }),
    ...(one.sex !== undefined && other.sex !== undefined && { sex: one.sex === other.sex ? "same" : "different" }),
  };
}
