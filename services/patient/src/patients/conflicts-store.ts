/** What callers are told about patients whom they may not see, and how often they were told. */
import { insertIntoAudit } from "@pm/kit/audit/audit";
import type { FieldError } from "@pm/kit/errors";
import type { Queries } from "@pm/kit/postgres/transaction";
import type { Viewer } from "../database.ts";
import type { IdentifierKey } from "../tables.ts";
import { visible } from "./access-store.ts";

/**
 * The living patient that has the value of a claim `c`, by the kind of claim. Each must be one look-up in an index: the
 * order tells Postgres in which, or it reads all of another one that has the living patients too.
 */
const holders = {
  // Until an upgrade has given every e-mail its key, only the index of the version before has some.
  email: `(select id, registered_by, erased_at from patients where email_key between c.key and c.key and deleted_at is null order by email_key limit 1)
    union all
    (select id, registered_by, erased_at from patients where lower(email) between lower(c.email) and lower(c.email) and deleted_at is null
    order by lower(email) limit 1)`,
  identifier: `select p.id, p.registered_by, p.erased_at from patients p where p.id =
    (select patient_id from patient_identifiers i where i.system = c.system and i.value = c.value)`,
};

/** What a caller wants a patient to have, and what no two living patients share. */
export type Claim = { kind: "email"; email: string; key: string } | ({ kind: "identifier" } & IdentifierKey);

/** All claims of a write. `patientId` is the patient that is changed; a new one has none. */
export type Question = { viewer: Viewer; requestId: string; claims: Claim[]; patientId?: string | undefined };

/**
 * `told`: a patient whom the caller may not see has a value. It is counted and audited; the write may go on to fail.
 * `free`: no such patient has one. Perhaps one that the caller may see has it; the write finds out.
 * `refused`: the caller was told too often. Nobody has looked whether somebody has a value.
 */
export type Verdict = { kind: "told" | "free" } | { kind: "refused"; retryAfterSeconds: number };

/** The field that claims are of. */
export const fieldOf = (claims: Claim[]): string => (claims.some(({ kind }) => kind === "email") ? "email" : "identifiers");

/** What a refused line of a file gets. */
export const unchecked = (claims: Claim[]): FieldError => ({
  path: fieldOf(claims),
  message: "could not be checked; ask an administrator",
});

/** How often somebody may be told within an hour. */
const maxTold = 20;

/**
 * `offset 0` keeps the look-ups one after the other, so that they end with the last conflict that may be told: the time
 * of an answer does not depend on what was refused.
 */
const askStatement = {
  name: "conflicts_ask",
  text: `
    with asked as materialized (
      select * from json_to_recordset($1) as c(n int, actor text, sees_all boolean, principals text[], request_id text, kind text,
        email text, key text, system text, value text, patient_id uuid)
    ), callers as materialized (
      select caller, array(select moment from unnest(told_at) as moment where moment > clock_timestamp() - interval '1 hour' order by moment) as told_at
      from conflict_limits where caller = any($2) order by caller for update
    ), told as materialized (
      select conflict.* from callers cross join lateral (
        select c.n, c.actor, c.request_id, c.kind, holder.id
        from (select * from asked where actor = caller order by n offset 0) c
        cross join lateral (
          select h.id from (${Object.entries(holders)
            .map(([kind, statement]) => `select * from (${statement}) ${kind} where c.kind = '${kind}'`)
            .join(" union all ")}) h
          where h.id is distinct from c.patient_id and not ${visible("h", "c")} limit 1 offset 0
        ) holder
        limit ${maxTold} - cardinality(told_at)
      ) conflict
    ), counted as (
      update conflict_limits l set told_at = callers.told_at || array_fill(clock_timestamp(), array[more.n])
      from callers, (select actor, count(*)::int as n from told group by actor) more
      where l.caller = any($2) and l.caller = callers.caller and more.actor = callers.caller
    ), audited as (
      ${insertIntoAudit}
      select actor, 'patient.conflict_told', id, request_id, jsonb_build_object('kind', kind) from told order by n
    )
    select caller, array(select n from told where actor = caller order by n) as told,
      ${maxTold} - cardinality(told_at) as remaining,
      ceil(extract(epoch from coalesce(told_at[1], now()) + interval '1 hour' - clock_timestamp()))::int as seconds
    from callers`,
};

const newcomersStatement = {
  name: "conflicts_newcomers",
  text: "insert into conflict_limits (caller) select unnest($1::text[]) as caller order by caller on conflict do nothing",
};

type CallerRow = { caller: string; told: number[]; remaining: number; seconds: number };

/** Answers the questions one by one, in order. Callers who see all patients are told as often as they ask. */
export async function askAboutConflicts(db: Queries, questions: Question[]): Promise<Verdict[]> {
  const claims = questions.flatMap((question, index) => {
    return question.viewer.seesAll ? [] : question.claims.map((claim) => ({ ...question, claim, index }));
  });
  const callers = [...new Set(claims.map(({ viewer }) => viewer.id))];
  const rows = new Map((await ask(db, claims, callers)).map((row) => [row.caller, row]));
  const verdicts = questions.map((): Verdict => ({ kind: "free" }));
  claims.forEach(({ viewer, index }, n) => {
    const row = rows.get(viewer.id);
    if (!row || verdicts[index]?.kind === "refused") return;
    const last = row.told.length === row.remaining ? (row.told.at(-1) ?? -1) : Number.POSITIVE_INFINITY;
    if (n > last) verdicts[index] = { kind: "refused", retryAfterSeconds: row.seconds };
    else if (row.told.includes(n)) verdicts[index] = { kind: "told" };
  });
  return verdicts;
}

type NumberedClaim = Question & { claim: Claim };

async function ask(db: Queries, claims: NumberedClaim[], callers: string[]): Promise<CallerRow[]> {
  if (claims.length === 0) return [];
  const asked = claims.map(({ viewer, requestId, claim, patientId }, n) => {
    const who = { actor: viewer.id, sees_all: viewer.seesAll, principals: viewer.principals };
    return { n, ...who, request_id: requestId, ...claim, patient_id: patientId };
  });
  const rows = await db.query<CallerRow>(askStatement, [JSON.stringify(asked), callers]);
  if (rows.length === callers.length) return rows;
  // They ask for the first time. Nothing was told to them, since only callers with a row are.
  await db.query(newcomersStatement, [callers]);
  return db.query<CallerRow>(askStatement, [JSON.stringify(asked), callers]);
}
