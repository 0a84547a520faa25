/**
 * The keys of e-mails that were stored without one: before there were keys, or while patients could share an e-mail.
 */
import { emailKey } from "@pm/kit/email";
import { violatedConstraint } from "@pm/kit/postgres/database";
import { type Kysely, sql } from "kysely";
import type { Tables } from "../tables.ts";

const batchSize = 2_000;
/** A message names this many addresses at most. */
const maxListed = 100;

type Keyless = { id: string; email: string; key: string; living: boolean };

/**
 * Gives the patients that have none the keys of their e-mails, while others read and write. Patients whom the index of
 * the version before kept apart, and who have the same address in two spellings, stay as they are. Gives their ids.
 * @throws Error with counts and ids if patients share an address otherwise
 */
export async function assignEmailKeys(db: Kysely<Tables>): Promise<string[]> {
  const left: Keyless[] = [];
  for (let last = "00000000-0000-0000-0000-000000000000"; ; ) {
    const { rows } = await sql<Omit<Keyless, "key">>`
      select id, coalesce(email, shared_email) as email, deleted_at is null as living from patients
      where id > ${last} and email_key is null and coalesce(email, shared_email) is not null order by id limit ${batchSize}`.execute(db);
    const batch = rows.map((row) => ({ ...row, key: emailKey(row.email) }));
    const end = batch.at(-1);
    if (!end) break;
    last = end.id;
    const given = await giveKeys(db, batch);
    left.push(...batch.filter(({ id, living }) => living && !given.has(id)));
  }
  return refuseShared(await patientsOfKeys(db, left));
}

/** Gives each key to the first living patient with its address, if nobody has it. A deleted one gets it in any case. */
async function giveKeys(db: Kysely<Tables>, batch: Keyless[]): Promise<Set<string>> {
  const column = (name: keyof Keyless) => batch.map((row) => row[name]);
  for (;;) {
    try {
      const { rows } = await sql<{ id: string }>`
        with keyless as (
          select *, row_number() over (partition by key, living order by id) as place
          from unnest(${column("id")}::uuid[], ${column("email")}::text[], ${column("key")}::text[], ${column("living")}::boolean[])
            as k(id, email, key, living)
        )
        update patients p set email_key = k.key from keyless k
        where p.id = k.id and p.email_key is null and coalesce(p.email, p.shared_email) = k.email and (p.deleted_at is null) = k.living
        and (not k.living or (k.place = 1 and not exists (select 1 from patients where email_key = k.key and deleted_at is null)))
        returning p.id`.execute(db);
      return new Set(rows.map(({ id }) => id));
    } catch (error) {
      // Somebody wrote one of these addresses meanwhile. Next time the statement sees it.
      if (violatedConstraint(error) !== "patients_email_key") throw error;
    }
  }
}

/**
 * Living patients by the key of their e-mail. `isGuarded`: the index of the version before keeps it apart from others.
 */
type Sharing = Map<string, { id: string; isGuarded: boolean }[]>;

/** Those who stayed without key, each with the patient who has it. Who has changed or gone meanwhile is left out. */
async function patientsOfKeys(db: Kysely<Tables>, left: Keyless[]): Promise<Sharing> {
  const keys = new Map(left.map(({ id, key }) => [id, key]));
  const { rows } = await sql<{ id: string; key: string | null; isGuarded: boolean }>`
    select id, email_key as key, email is not null as "isGuarded" from patients where deleted_at is null
    and (id = any(${[...keys.keys()]}::uuid[]) or email_key = any(${[...new Set(keys.values())]}::text[])) order by id`.execute(db);
  return Map.groupBy(rows, ({ id, key }) => key ?? keys.get(id) ?? "");
}

function refuseShared(sharing: Sharing): string[] {
  const groups = [...sharing.values()].filter((patients) => patients.length > 1);
  const wrong = groups.filter((patients) => !patients.every(({ isGuarded }) => isGuarded));
  if (wrong.length > 0) {
    const ids = wrong.map((patients) => patients.map(({ id }) => id).join(" and "));
    const more = wrong.length > maxListed ? `; and ${wrong.length - maxListed} more` : "";
    throw new Error(
      `EMAIL_UNIQUE: ${wrong.flat().length} patients share ${wrong.length} e-mail addresses. Give all but one of each another address, or none, and migrate again; or leave EMAIL_UNIQUE off. They are ${ids.slice(0, maxListed).join("; ")}${more}`,
    );
  }
  return groups.flatMap((patients) => patients.map(({ id }) => id));
}
