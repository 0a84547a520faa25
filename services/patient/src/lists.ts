/** Lists of patients: filtered, ordered, page by page. Every page costs the same, because it begins where an index says. */
import type { Cursors } from "@pm/kit/cursor";
import { type RawBuilder, sql } from "kysely";
import { isUuid } from "./ids.ts";
import type { Call } from "./patients.ts";
import { viewerOf } from "./patients.ts";
import type { Patient, PatientsTable } from "./schema.ts";
import { type PatientDatabase, type PatientRow, toPatient, type Viewer } from "./store.ts";

export const sortFields = ["createdAt", "name", "dateOfBirth", "registeredDate"] as const;
type SortField = (typeof sortFields)[number];
export const sorts = sortFields.flatMap((field) => [field, `-${field}`] as const);

export type ListQuery = {
  limit: number;
  cursor?: string | undefined;
  sort: `${"" | "-"}${SortField}`;
};

export type Page = { items: Patient[]; nextCursor?: string; totalEstimate?: number };

/** What a list is ordered by before the id. Ids are of the moment of creation, so that order needs nothing before it. */
const sortKeys: Record<SortField, RawBuilder<string> | undefined> = {
  createdAt: undefined,
  name: sql`lower(p.name)`,
  dateOfBirth: sql`p.date_of_birth`,
  registeredDate: sql`p.registered_date`,
};

/** The access rule as a condition on `patients p`. */
export function visibleTo(viewer: Viewer): RawBuilder<boolean> {
  if (viewer.seesAll) return sql`true`;
  return sql`p.id in (select id from patients where registered_by = ${viewer.id}
    union all select patient_id from patient_access where principal = any(${viewer.principals}))`;
}

export function createLists(options: { db: PatientDatabase; cursors: Cursors }) {
  const { db, cursors } = options;
  return {
    async list(call: Call, { limit, cursor, ...query }: ListQuery): Promise<Page> {
      const viewer = viewerOf(call.caller);
      const bound = ["patients", call.caller.id, query];
      const descending = query.sort.startsWith("-");
      const field = query.sort.replace("-", "") as SortField;
      const key = sortKeys[field];
      const direction = descending ? sql`desc` : sql`asc`;
      const after = descending ? sql`<` : sql`>`;
      const order = key ? sql`${key} ${direction}, p.id ${direction}` : sql`p.id ${direction}`;
      let conditions = sql`p.deleted_at is null and ${visibleTo(viewer)}`;
      if (cursor !== undefined) {
        const [position, id] = cursors.open(bound, cursor);
        const from = key ? sql`(${key}, p.id) ${after} (${position}, ${id})` : sql`p.id ${after} ${id}`;
        conditions = sql`${conditions} and ${from}`;
      }
      const { rows } = await sql<PatientRow & Pick<PatientsTable, "id"> & { sort_key: string }>`
        select p.id, p.version, p.name, p.first_name, p.last_name, p.email, p.phone_number, p.date_of_birth, p.address_text, p.street, p.city,
          p.state, p.zip_code, p.sex, p.registered_date, p.created_at, p.updated_at, b.account_id, ${key ?? sql`p.id`} as sort_key
        from patients p left join patient_billing b on b.patient_id = p.id
        where ${conditions} order by ${order} limit ${limit + 1}`.execute(db.kysely);
      const page = rows.slice(0, limit);
      const last = page.at(-1);
      const more = rows.length > limit && last !== undefined;
      return {
        items: page.map(toPatient),
        ...(more && isUuid(last.id) && { nextCursor: cursors.seal(bound, [last.sort_key, last.id]) }),
      };
    },
  };
}
