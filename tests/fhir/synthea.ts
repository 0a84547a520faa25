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
