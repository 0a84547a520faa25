/** Payers in Postgres. They are never deleted: invoices name them. */
import type { Statement } from "@pm/kit/postgres/database";
import type { Queries } from "@pm/kit/postgres/transaction";
import type { PayerKind, Row } from "../tables.ts";

const payerColumns = "id, kind, name, address, email, reference, version, created_at, updated_at";

const insertStatement: Statement = {
  name: "payer_insert",
  text: `insert into payers (id, kind, name, address, email, reference, created_at, updated_at)
    values ($1, $2, $3, $4, $5, $6, $7, $7) returning ${payerColumns}`,
};

export type PayerValues = Pick<Row<"payers">, "kind" | "name" | "address" | "email" | "reference">;

export async function insertPayer(tx: Queries, id: string, values: PayerValues, now: Date): Promise<Row<"payers">> {
  const { kind, name, address, email, reference } = values;
  return only(await tx.query<Row<"payers">>(insertStatement, [id, kind, name, address, email, reference, now]));
}

const findStatement: Statement = { name: "payer_find", text: `select ${payerColumns} from payers where id = $1` };

export async function findPayer(db: Queries, id: string): Promise<Row<"payers"> | undefined> {
  const [row] = await db.query<Row<"payers">>(findStatement, [id]);
  return row;
}

// Not FOR UPDATE: accounts that refer to the payer would wait for that lock.
const lockStatement: Statement = { name: "payer_lock", text: `${findStatement.text} for no key update` };

/** Locks a payer until the transaction ends. */
export async function lockPayer(tx: Queries, id: string): Promise<Row<"payers"> | undefined> {
  const [row] = await tx.query<Row<"payers">>(lockStatement, [id]);
  return row;
}

const listStatement: Statement = {
  name: "payers_list",
  text: `select ${payerColumns} from payers
    where ($1::text is null or kind = $1) and ($2::uuid is null or id < $2) order by id desc limit $3`,
};

/** Payers after the id `before`, the newest first: ids rise with time. */
export function listPayers(
  db: Queries,
  filter: { kind: PayerKind | undefined },
  page: { before: string | undefined; limit: number },
): Promise<Row<"payers">[]> {
  return db.query(listStatement, [filter.kind ?? null, page.before ?? null, page.limit]);
}

const updateStatement: Statement = {
  name: "payer_update",
  text: `update payers set kind = $2, name = $3, address = $4, email = $5, reference = $6, version = version + 1, updated_at = $7
    where id = $1 returning ${payerColumns}`,
};

/** Changes a payer that is locked. */
export async function updatePayer(tx: Queries, id: string, values: PayerValues, now: Date): Promise<Row<"payers">> {
  const { kind, name, address, email, reference } = values;
  return only(await tx.query<Row<"payers">>(updateStatement, [id, kind, name, address, email, reference, now]));
}

function only<Row>([row]: Row[]): Row {
  if (!row) throw new Error("the payer was not written");
  return row;
}
