/** How names are ordered: by the family name, then by the given names. */
import type { PatientRecord } from "../tables.ts";
import { endsName, isTitle } from "./titles.ts";

/** Sorts before every character (Unicode's UTS 35, merged comparisons), so "Lee, Zoe" comes before "Leeds, Adam". */
const separator = "\uFFFE";

export function sortName({ name, firstName, lastName }: PatientRecord): string {
  if (lastName !== undefined) return `${lastName}${separator}${firstName ?? ""}`;
  const [beforeComma, ...afterComma] = name.split(",");
  if (afterComma.length > 0 && afterComma.every((part) => !endsName(part.trim())))
    return `${beforeComma}${separator}${afterComma.join(",").trim()}`;
  const tokens = name.replaceAll(",", " ").split(/\s+/).filter(Boolean);
  while (tokens.length > 1 && isTitle(tokens[0] ?? "")) tokens.shift();
  while (tokens.length > 1 && endsName(tokens.at(-1) ?? "")) tokens.pop();
  const family = tokens.pop() ?? "";
  return `${family}${separator}${tokens.join(" ")}`;
}
