/**
 * The bond between a part of a resource that is kept (`kept.ts`) and the value of ours that it belongs to: a digest of
 * that value. Patient-service writes some values differently, so the bond leaves open what it changes.
 */
import { hash } from "node:crypto";

type Fields = Record<string, unknown>;

/** What a bond leaves open: `p` the country code of numbers, `t` the text made of the parts of a name or address. */
type Open = { p: boolean; t: boolean };

const isPhone = ({ system }: Fields) => system === "phone";
const isInternational = (value: unknown) => typeof value === "string" && /^\+[1-9]\d+$/.test(value);
const hasParts = (fields: Fields) => ["given", "family", "line", "city", "state", "postalCode"].some((name) => name in fields);

/** Fewer digits end too many numbers. With more, a number would differ from the same one with its country code. */
const lastDigits = (value: string) => value.replace(/(;ext=|ext|x|#).*$/i, "").replace(/\D/g, "").slice(-7); // biome-ignore format: one chain

function normal(value: unknown, open: Open): unknown {
  if (typeof value === "string") return value.normalize().trim().toLowerCase();
  // Words of a name are one text there.
  if (Array.isArray(value))
    return value.every((one) => typeof one === "string") ? normal(value.join(" "), open) : value.map((one) => normal(one, open));
  if (typeof value !== "object" || value === null) return value;
  const fields = value as Fields;
  const said = Object.keys(fields)
    .filter((name) => fields[name] !== undefined && name !== "id" && !(open.t && name === "text" && hasParts(fields)))
    .sort();
  return said.map((name) => {
    const isNumber = open.p && name === "value" && isPhone(fields);
    return [name, isNumber ? lastDigits(String(fields[name])) : normal(fields[name], open)];
  });
}

const digest = (value: unknown, open: Open): string => hash("sha256", JSON.stringify(normal(value, open)) ?? "", "base64url").slice(0, 12);

/** All objects in a value. */
const objectsIn = (value: unknown): Fields[] =>
  typeof value !== "object" || value === null
    ? []
    : [...(Array.isArray(value) ? [] : [value as Fields]), ...Object.values(value).flatMap(objectsIn)];

/** The bond to a value as it is sent. It begins with what it leaves open. */
export function bondOf(value: unknown): string {
  const objects = objectsIn(value);
  const p = objects.some((one) => isPhone(one) && !isInternational(one.value));
  const t = objects.some((one) => hasParts(one) && !("text" in one));
  return `${p ? "p" : ""}${t ? "t" : ""}:${digest(value, { p, t })}`;
}

/** Whether `value` is the one that the bond was made from. True without a bond. */
export type IsBound = (bond: string | undefined, value: unknown) => boolean;

/** Caches digests, so values must not change while it is in use. */
export function createBondCheck(): IsBound {
  const known = new Map<unknown, Map<string, string>>();
  return (bond, value) => {
    if (bond === undefined) return true;
    const [flags = ""] = bond.split(":");
    const digests = known.get(value) ?? new Map<string, string>();
    known.set(value, digests);
    const found = digests.get(flags) ?? digest(value, { p: flags.includes("p"), t: flags.includes("t") });
    digests.set(flags, found);
    return bond === `${flags}:${found}`;
  };
}
