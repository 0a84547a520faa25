/** The model that is in use: a file beside this one, unless a setting has another. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { grades } from "../tables.ts";
import { fields, levels } from "./comparisons.ts";
import type { Model } from "./model.ts";

const share = z.number().gt(0).max(1);
const schema = z.strictObject({
  version: z.string().regex(/^[\w.-]{1,40}$/),
  trainedOn: z.string(),
  records: z.int().min(2),
  prior: z.number(),
  thresholds: z.strictObject(Object.fromEntries(grades.map((grade) => [grade, z.number()]))),
  fields: z.strictObject(
    Object.fromEntries(
      fields.map((field) => [
        field,
        z.strictObject(Object.fromEntries(levels[field].map((level) => [level, z.strictObject({ m: share, u: share })]))),
      ]),
    ),
  ),
});

/** @throws Error that says what of the setting is wrong */
export function readModel(text = readFileSync(join(import.meta.dirname, "model.json"), "utf8")): Model {
  const parsed = schema.safeParse(JSON.parse(text));
  if (!parsed.success) throw new Error(`MATCH_MODEL: is no model of this version: ${z.prettifyError(parsed.error)}`);
  return parsed.data as Model;
}
