/**
 * The SQL of a search by fields: conditions on `patients p`. Words find candidates in their index; the fields
 * themselves decide.
 */
import { sql } from "kysely";
import type { PatientDatabase } from "../database.ts";
import type { Sex } from "../tables.ts";
import type { Condition } from "./access-store.ts";

/** Where the texts of a field are: columns of the first entry, and paths in `details` of all entries of a list. */
const textFields = {
  name: { columns: ["name", "first_name", "last_name"], paths: ["$.names[*].text", "$.names[*].given", "$.names[*].family"] },
  family: { columns: ["last_name"], paths: ["$.names[*].family"] },
  given: { columns: ["first_name"], paths: ["$.names[*].given"] },
  email: { columns: ["email", "shared_email"], paths: ["$.emails[*].value"] },
  phone: { columns: ["phone_number"], paths: ["$.phones[*].value"] },
  address: {
    columns: ["address_text", "street", "city", "state", "zip_code"],
    paths: ["text", "street", "city", "state", "zipCode", "country"].map((part) => `$.addresses[*].${part}`),
  },
  street: { columns: ["street"], paths: ["$.addresses[*].street"] },
  city: { columns: ["city"], paths: ["$.addresses[*].city"] },
  state: { columns: ["state"], paths: ["$.addresses[*].state"] },
  zipCode: { columns: ["zip_code"], paths: ["$.addresses[*].zipCode"] },
  country: { columns: [], paths: ["$.addresses[*].country"] },
} as const satisfies Record<string, { columns: readonly string[]; paths: readonly string[] }>;
type TextField = keyof typeof textFields;
export const otherFields = ["id", "mergedInto", "linkedTo", "identifier", "sex", "deceased", "dateOfBirth", "updatedAt"] as const;
export const textFieldNames = Object.keys(textFields) as TextField[];
export const whereFields = [...textFieldNames, ...otherFields] as const;
type WhereField = (typeof whereFields)[number];
export const textForms = ["start", "exact", "contains"] as const;
export const recordStates = ["living", "merged", "deleted"] as const;

export const dateOps = ["eq", "ne", "gt", "lt", "ge", "le", "sa", "eb"] as const;

/** `first` and `last`: the days that a date may be. */
export type DateTest = { op: (typeof dateOps)[number]; first: string; last: string };
export type InstantTest = { op: "gt" | "ge" | "lt" | "le"; at: string };
/**
 * A text as it is compared, and the words of the index that a patient has who has it: the last one may be a beginning.
 */
export type TextTest = { text: string; words: string[]; isBeginning: boolean };
export type IdentifierTest = { system?: string; value?: string; words: string[] };

/** A condition that is right. */
export type WhereCondition =
  | { field: WhereField; missing: boolean }
  | { field: TextField; is: (typeof textForms)[number]; texts: TextTest[] }
  | { field: "id" | "mergedInto" | "linkedTo"; ids: string[] }
  | { field: "identifier"; identifiers: IdentifierTest[] }
  | { field: "sex"; sexes: Sex[] }
  | { field: "deceased"; flags: boolean[] }
  | { field: "dateOfBirth"; dates: DateTest[] }
  | { field: "updatedAt"; instants: InstantTest[] };

export type Where = { states: (typeof recordStates)[number][]; conditions: WhereCondition[] };

/** `isIndexed`: whether an index finds those whom a condition is true of. */
type Part = { condition: Condition; isIndexed: boolean };

const any = (conditions: Condition[]): Condition => sql`(${conditions.length === 0 ? sql`false` : sql.join(conditions, sql` or `)})`;
const quote = (word: string) => `'${word.replace(/['\\]/g, "$&$&")}'`;
const escapeLike = (text: string) => text.replace(/[\\%_]/g, "\\$&");

/** Fewer letters, or digits, are in too many words. */
const minLetters = 2;
const minDigits = 4;
const isNarrow = (word: string) => word.length >= (/^\d+$/.test(word) ? minDigits : minLetters);

/** With more words than this that have a part, the patients are looked through instead. */
const maxWords = 500;

/** The words of names that have these letters anywhere. Undefined if they are too many, or too few letters to ask. */
async function wordsWith(db: PatientDatabase, part: string): Promise<string[] | undefined> {
  if (Array.from(part).length < 3) return undefined;
  const statement = { name: "patient_words_with", text: `select word from patient_words where word like $1 limit ${maxWords + 1}` };
  const rows = await db.query<{ word: string }>(statement, [`%${escapeLike(part)}%`]);
  return rows.length > maxWords ? undefined : rows.map(({ word }) => word);
}

/** What the index of words is asked for a text; undefined if it does not help, "" if no patient has the text. */
async function wordQuery(db: PatientDatabase, field: TextField, is: string, { words, isBeginning }: TextTest): Promise<string | undefined> {
  if (is === "contains") {
    const [longest] = words.toSorted((a, b) => b.length - a.length);
    const found = longest === undefined || field === "phone" ? undefined : await wordsWith(db, longest);
    return found?.map(quote).join(" | ");
  }
  const last = words.at(-1);
  if (last === undefined || !words.some(isNarrow)) return undefined;
  const begins = field === "phone" || isBeginning;
  const all = words.map((word) => (word === last && begins ? `${quote(word)}:*` : quote(word)));
  // A beginning of one letter is in too many words; the others are enough.
  return (isNarrow(last) || !begins ? all : all.slice(0, -1)).join(" & ");
}

/** Whether one of these tests is true of an SQL text. */
function textTest(field: TextField, is: string, texts: TextTest[], value: Condition): Condition {
  const values = texts.map(({ text }) => text);
  if (field === "phone") {
    if (is === "exact") return sql`split_part(${value}, ';', 1) = any(${values.map((text) => text.replace(/;.*/, ""))}::text[])`;
    return sql`${value} like any(${values.map((text) => `${is === "contains" ? "%" : ""}${escapeLike(text)}%`)}::text[])`;
  }
  // Given names stand in one text, with spaces between.
  if (is === "exact" && field === "given")
    return sql`(${value} = any(${values}::text[]) or string_to_array(${value}, ' ') && ${values}::text[])`;
  if (is === "exact") return sql`${value} = any(${values}::text[])`;
  const patterns = values.flatMap((text) => {
    const escaped = escapeLike(text);
    if (is === "contains") return [`%${escaped}%`];
    return field === "given" ? [`${escaped}%`, `% ${escaped}%`] : [`${escaped}%`];
  });
  return sql`folded(${value}) like any(${patterns}::text[])`;
}

async function textPart(
  db: PatientDatabase,
  { field, is, texts }: { field: TextField; is: string; texts: TextTest[] },
  hasWords: boolean,
): Promise<Part> {
  const { columns, paths } = textFields[field];
  const own = columns.map((column) => textTest(field, is, texts, sql.ref(`p.${column}`)));
  const listed = paths.map(
    (path) =>
      sql`exists (select from jsonb_path_query(p.details, ${sql.lit(path)}::jsonpath) v where ${textTest(field, is, texts, sql`(v #>> '{}')`)})`,
  );
  // Few records have a list that says more than the columns.
  const list = paths[0].slice("$.".length, paths[0].indexOf("["));
  const more = sql`(p.details ? ${sql.lit(list)} and ${any(listed)})`;
  const condition = any([...own, more]);
  const queries = hasWords ? await Promise.all(texts.map((text) => wordQuery(db, field, is, text))) : [undefined];
  if (queries.includes(undefined)) return { condition, isIndexed: false };
  const query = queries.flatMap((each) => (each ? [`(${each})`] : [])).join(" | ");
  return { condition: query === "" ? sql`false` : sql`(p.words @@ ${query}::tsquery and ${condition})`, isIndexed: true };
}

/** Keys are of living patients only; of the others, the records themselves say it. */
function identifierPart(tests: IdentifierTest[], { states }: Where, hasWords: boolean): Part {
  const parts = tests.map(({ system, value, words }): Part => {
    const has = sql`p.details->'identifiers' @> ${JSON.stringify([{ ...(system && { system }), ...(value && { value }) }])}::jsonb`;
    if (system === undefined) {
      const found = hasWords && words.some(isNarrow) ? sql`p.words @@ ${words.map(quote).join(" & ")}::tsquery and` : undefined;
      return { condition: sql`(${found ?? sql``} ${has})`, isIndexed: found !== undefined };
    }
    const isValue = value === undefined ? sql`` : sql`and value = ${value}`;
    const living = sql`p.id = any(array(select patient_id from patient_identifiers where system = ${system} ${isValue}))`;
    const isLivingOnly = states.every((state) => state === "living");
    return {
      condition: isLivingOnly ? living : any([living, sql`(p.deleted_at is not null and ${has})`]),
      isIndexed: isLivingOnly && value !== undefined,
    };
  });
  return { condition: any(parts.map(({ condition }) => condition)), isIndexed: parts.every(({ isIndexed }) => isIndexed) };
}

/** The last day that a date of birth can be. */
const lastDay = sql`(p.date_of_birth + case length(p.details->>'dateOfBirth') when 4 then interval '1 year - 1 day'
  when 7 then interval '1 month - 1 day' else interval '0' end)::date`;

/** As FHIR compares dates that are ranges. The first condition of each is one on the column, which has an index. */
function bornOn({ op, first, last }: DateTest): Condition {
  const [isFrom, isWithin] = [sql`p.date_of_birth between ${first} and ${last}`, sql`${lastDay} <= ${last}`];
  const mayBeLater = sql`p.date_of_birth > ${last}::date - interval '1 year'`;
  switch (op) {
    case "eq":
      return sql`(${isFrom} and ${isWithin})`;
    case "ne":
      return sql`not (${isFrom} and ${isWithin})`;
    case "gt":
      return sql`(${mayBeLater} and ${lastDay} > ${last})`;
    case "ge":
      return sql`(${mayBeLater} and (${lastDay} > ${last} or p.date_of_birth >= ${first}))`;
    case "lt":
      return sql`p.date_of_birth < ${first}`;
    case "le":
      return sql`(p.date_of_birth <= ${last} and (p.date_of_birth < ${first} or ${isWithin}))`;
    case "sa":
      return sql`p.date_of_birth > ${last}`;
    case "eb":
      return sql`(p.date_of_birth < ${first} and ${lastDay} < ${first})`;
  }
}

const instantOps = { gt: sql`>`, ge: sql`>=`, lt: sql`<`, le: sql`<=` };
const hasDied = sql`coalesce(p.details->'deceased' <> 'false', false)`;

/** Whether a field says nothing. */
function isMissing(field: WhereCondition["field"]): Condition {
  if (field === "sex") return sql`p.sex is null`;
  if (field === "mergedInto") return sql`p.merged_into is null`;
  if (field === "linkedTo") return sql`(p.merged_into is null and not exists (select from patients m where m.merged_into = p.id))`;
  if (field === "deceased") return sql`p.details->'deceased' is null`;
  if (field === "identifier") return sql`p.details->'identifiers' is null`;
  if (!(field in textFields)) return sql`false`;
  const { columns, paths } = textFields[field as TextField];
  const absent = columns.map((column) => sql`${sql.ref(`p.${column}`)} is null`);
  const nowhere = paths.map((path) => sql`coalesce(p.details @? ${sql.lit(path)}::jsonpath, false) = false`);
  return sql`(${sql.join([...absent, ...nowhere], sql` and `)})`;
}

/** Without a sex, it is unknown. Apart from that the condition is one of which Postgres knows how many fulfil it. */
function hasSex(sexes: string[]): Condition {
  const isOne = sql`p.sex = any(${sexes}::text[])`;
  return sexes.includes("unknown") ? sql`(${isOne} or p.sex is null)` : isOne;
}

async function partOf(db: PatientDatabase, where: Where, asked: WhereCondition, hasWords: boolean): Promise<Part> {
  if ("missing" in asked)
    return { condition: asked.missing ? isMissing(asked.field) : sql`not ${isMissing(asked.field)}`, isIndexed: false };
  if ("texts" in asked) return textPart(db, asked, hasWords);
  if ("identifiers" in asked) return identifierPart(asked.identifiers, where, hasWords);
  if ("sexes" in asked) return { condition: hasSex(asked.sexes), isIndexed: false };
  if ("flags" in asked) return { condition: any(asked.flags.map((flag) => sql`${hasDied} = ${flag}`)), isIndexed: false };
  if ("dates" in asked) return { condition: any(asked.dates.map(bornOn)), isIndexed: asked.dates.every(({ op }) => op !== "ne") };
  if ("instants" in asked)
    return {
      condition: any(
        asked.instants.map(({ op, at }) => sql`date_trunc('milliseconds', p.updated_at) ${instantOps[op]} ${at}::timestamptz`),
      ),
      isIndexed: false,
    };
  const ids = sql`${asked.ids}::uuid[]`;
  const survivors = sql`array(select merged_into from patients where id = any(${ids}) and merged_into is not null)`;
  const conditions = {
    id: sql`p.id = any(${ids})`,
    mergedInto: sql`p.merged_into = any(${ids})`,
    linkedTo: sql`(p.merged_into = any(${ids}) or p.id = any(${survivors}))`,
  };
  return { condition: conditions[asked.field], isIndexed: true };
}

const stateConditions = {
  living: sql`p.deleted_at is null`,
  merged: sql`p.merged_into is not null`,
  deleted: sql`(p.deleted_at is not null and p.merged_into is null)`,
};

/** @param hasWords whether all rows have the words of this version */
export async function whereCondition(db: PatientDatabase, where: Where, hasWords: boolean): Promise<Part> {
  const parts = await Promise.all(where.conditions.map((asked) => partOf(db, where, asked, hasWords)));
  const states = any(where.states.map((state) => stateConditions[state]));
  return {
    condition: sql.join([states, ...parts.map(({ condition }) => condition)], sql` and `),
    isIndexed: parts.some(({ isIndexed }) => isIndexed),
  };
}
