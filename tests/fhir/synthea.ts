import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import type { Patient } from "fhir/r4.js";

/** 200 patients that Synthea made; 43 have died. README.md says how. */
export function syntheticPatients(): Patient[] {
  const text = gunzipSync(readFileSync(join(import.meta.dirname, "patients.ndjson.gz"))).toString("utf8");
  return text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Patient);
}

const system = "https://github.com/synthetichealth/synthea";
/** The identifier by which a patient is known on every server. */
export const syntheaId = ({ identifier }: Patient): string => identifier?.find((one) => one.system === system)?.value ?? "";

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null;

/** What was written and is not read: the path of each value. A list may have another order, and more entries. */
export function lostOf(written: unknown, read: unknown, path = "Patient"): string[] {
  if (Array.isArray(written)) {
    const entries: unknown[] = Array.isArray(read) ? read : [];
    return written.flatMap((value) => {
      const losses = entries.map((entry) => lostOf(value, entry, path));
      return losses.sort((one, other) => one.length - other.length)[0] ?? [path];
    });
  }
  if (isObject(written))
    return Object.entries(written).flatMap(([key, value]) => lostOf(value, isObject(read) ? read[key] : undefined, `${path}.${key}`));
  return written === read ? [] : [`${path}: ${JSON.stringify(written)} became ${JSON.stringify(read)}`];
}
