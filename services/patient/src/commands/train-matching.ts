/**
 * `npm run match:train -- file model.json`: learns from a file of patients, CSV or NDJSON, how much each field says,
 * and writes the model for MATCH_MODEL_FILE. A column or field `person`, if any, tells which records are of one person.
 */
import { createReadStream, writeFileSync } from "node:fs";
import { Readable } from "node:stream";
import { clinicConfig, readEnvironment } from "@pm/kit/config";
import { AppError } from "@pm/kit/errors";
import { recordSettings } from "../config.ts";
import { readMap } from "../files/columns.ts";
import { readFile } from "../files/formats.ts";
import { train } from "../matching/training.ts";
import { type Features, featuresOf } from "../patients/features.ts";
import { rulesAt } from "../patients/fields.ts";
import { partOfRecord } from "../patients/record.ts";

const say = (line: string) => void process.stdout.write(`${line}\n`);
const rules = rulesAt(Date.now(), { ...recordSettings(readEnvironment(clinicConfig)), dateOfBirthPrecision: "year" });

/** What of a line can be compared: without fields that are wrong, such as a date that no calendar has. */
function readPart(body: object): Features | undefined {
  for (let given: Record<string, unknown> = { ...body }, tries = 0; tries < 2; tries++)
    try {
      return featuresOf(partOfRecord(given, rules));
    } catch (error) {
      const wrong = error instanceof AppError ? (error.options.errors ?? []) : undefined;
      if (!wrong) throw error;
      given = Object.fromEntries(Object.entries(given).filter(([field]) => !wrong.some(({ path }) => path.split(/[.[]/)[0] === field)));
    }
  return undefined;
}

async function main(): Promise<void> {
  const [file, target] = process.argv.slice(2);
  if (!file || !target)
    throw new Error("say the file of patients and the file for the model: npm run match:train -- patients.csv model.json");
  const isCsv = /\.csv$/i.test(file);
  const stream = () => Readable.toWeb(createReadStream(file)) as ReadableStream<Uint8Array>;
  const hasPerson = isCsv && (await firstLine(file)).split(/[,;\t]/).some((name) => /^"?person"?$/i.test(name.trim()));
  const options = hasPerson ? { map: readMap("person:identifiers.person") } : {};
  const [records, people, skipped] = [[] as Features[], [] as (string | undefined)[], [] as number[]];
  for await (const line of readFile(isCsv ? "csv" : "ndjson", stream(), "utf-8", options).lines) {
    const { person, ...body } = { ...(line.body as object) } as { person?: unknown };
    const identifier = line.added?.identifiers?.find(({ system }) => system === "person");
    const features = line.errors ? undefined : readPart(body);
    if (!features) skipped.push(line.number);
    else {
      records.push(features);
      people.push(identifier ? String(identifier.value) : person === undefined ? undefined : String(person));
    }
  }
  const known = people.filter((person) => person !== undefined).length;
  say(`${records.length} patients, ${known} of them with a person; ${skipped.length} lines could not be read`);
  const isOne = ({ one, other }: { one: number; other: number }) => people[one] !== undefined && people[one] === people[other];
  const version = new Date().toISOString().slice(0, 16).replaceAll(":", "");
  const model = train(records, known > 0 ? isOne : undefined, { version, trainedOn: `${records.length} patients` });
  writeFileSync(target, `${JSON.stringify(model, null, 2)}\n`);
  for (const [grade, threshold] of Object.entries(model.thresholds)) say(`${grade}: from a score of ${threshold}`);
}

async function firstLine(file: string): Promise<string> {
  for await (const chunk of createReadStream(file, { encoding: "utf8", end: 16_384 })) return String(chunk).split("\n")[0] ?? "";
  return "";
}

await main();
