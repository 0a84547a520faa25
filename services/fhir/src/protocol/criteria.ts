/**
 * What a search asks of our services, for resources whose parameters narrow each other: each is read to values that the
 * services take. `[]` means that nothing can match, undefined that anything does.
 */
import { AppError, invalidFields } from "@pm/kit/errors";
import { isUuid } from "@pm/kit/uuid";
import { type Criterion, dateOf, referenceOf, type Search, tokenOf } from "./search-parameters.ts";

/** @throws AppError invalid_argument for a modifier, since what is searched here is never missing */
function criteriaOf(search: Search, ...names: string[]): Criterion[] {
  const found = search.criteria.filter(({ name }) => names.includes(name));
  const modified = found.filter(({ modifier }) => modifier !== undefined);
  if (modified.length > 0)
    throw invalidFields(modified.map(({ name, modifier }) => ({ path: `${name}:${modifier}`, message: "is not known here" })));
  return found;
}

/** Values that all criteria of these names permit. */
function valuesOf<Value>(search: Search, names: string[], read: (value: string) => readonly Value[]): Value[] | undefined {
  const [first, ...others] = criteriaOf(search, ...names).map(({ values }) => [...new Set(values.flatMap(read))]);
  return first?.filter((value) => others.every((other) => other.includes(value)));
}

/** The ids that `_id` names. Ids that are none of ours match nothing. */
export const idsOf = (search: Search): string[] | undefined => valuesOf(search, ["_id"], (id) => (isUuid(id) ? [id.toLowerCase()] : []));

/** The one resource that a parameter means, `""` if there can be none. @throws AppError invalid_argument for several */
export function referenceIn(search: Search, base: string, type: string, ...names: string[]): string | undefined {
  const ids = valuesOf(search, names, (value) => {
    const id = referenceOf(value, type, base);
    return id !== undefined && isUuid(id) ? [id.toLowerCase()] : [];
  });
  if (ids && ids.length > 1) throw invalidFields([{ path: names[0] ?? "", message: "takes one value here" }]);
  return ids && (ids[0] ?? "");
}

/** What the codes of a token mean to our services. A code of another system matches nothing. */
export const codesOf = <Ours>(search: Search, name: string, system: string, codes: Record<string, readonly Ours[]>): Ours[] | undefined =>
  valuesOf<Ours>(search, [name], (value) => {
    const { system: given = system, code = "" } = tokenOf(value);
    return given === system && Object.hasOwn(codes, code) ? (codes[code] ?? []) : [];
  });

/** The texts of a token, such as numbers, in one system. */
export const textsOf = (search: Search, name: string, system = ""): string[] | undefined =>
  valuesOf(search, [name], (value) => {
    const { system: given = system, code } = tokenOf(value);
    return given === system && code !== undefined ? [code] : [];
  });

/** The one text of a token, `""` if none can be meant. @throws AppError invalid_argument for several */
export function textIn(search: Search, name: string, system: string): string | undefined {
  const texts = textsOf(search, name, system);
  if (texts && texts.length > 1) throw invalidFields([{ path: name, message: "takes one value here" }]);
  return texts && (texts[0] ?? "");
}

export type Span = { from?: Date | undefined; to?: Date | undefined };

/** From when until before when a date may be, by one criterion. @throws AppError invalid_argument for no single span */
export function boundsOf({ name, values: [value = "", ...more] }: Criterion): Span {
  if (more.length > 0) throw invalidFields([{ path: name, message: "takes one date; repeat the parameter for a span" }]);
  const { prefix, start, end } = dateOf(name, value);
  switch (prefix) {
    case "eq":
      return { from: start, to: end };
    case "ge":
      return { from: start };
    case "gt":
    case "sa":
      return { from: end };
    case "le":
      return { to: end };
    case "lt":
    case "eb":
      return { to: start };
    default:
      throw invalidFields([{ path: name, message: `takes eq, ge, gt, le, lt, sa and eb, but not ${prefix}` }]);
  }
}

/** From when until before when a date may be, by all criteria. @throws AppError invalid_argument for no single span */
export function spanOf(search: Search, ...names: string[]): Span {
  const bounds = criteriaOf(search, ...names).map(boundsOf);
  const from = Math.max(...bounds.map((one) => one.from?.getTime() ?? Number.NEGATIVE_INFINITY));
  const to = Math.min(...bounds.map((one) => one.to?.getTime() ?? Number.POSITIVE_INFINITY));
  const dateAt = (time: number) => (Number.isFinite(time) ? new Date(time) : undefined);
  return { from: dateAt(from), to: dateAt(to) };
}

/** The first and the last day of a span, `YYYY-MM-DD`; empty where it is open. */
export function daysOf(search: Search, ...names: string[]): { fromDate: string; toDate: string } {
  const { from, to } = spanOf(search, ...names);
  const dayOf = (date: Date) => date.toISOString().slice(0, 10);
  return { fromDate: from ? dayOf(from) : "", toDate: to ? dayOf(new Date(to.getTime() - 1)) : "" };
}

/** @throws AppError invalid_argument unless a search has one of these parameters, since it would read everything */
export function requireOne(search: Search, ...names: string[]): void {
  if (search.criteria.some(({ name }) => names.includes(name))) return;
  const message = `A search needs one of ${names.join(", ")}.`;
  throw new AppError("invalid_argument", message, { errors: [{ path: "", message }] });
}

/** An id of ours. @throws AppError not_found for what can be none */
export function uuidOf(id: string): string {
  if (isUuid(id)) return id;
  throw new AppError("not_found", "There is nothing with this id.");
}
