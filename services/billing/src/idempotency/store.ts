/** Requests that were carried out, with their answers, in Postgres. Rows stay for ever. */
import type { Statement } from "@pm/kit/postgres/database";
import type { Queries } from "@pm/kit/postgres/transaction";
import type { Row } from "../tables.ts";

const findStatement: Statement = { name: "requests_find", text: "select * from requests where id = any($1::uuid[])" };

export function findRequests(tx: Queries, ids: string[]): Promise<Row<"requests">[]> {
  return tx.query(findStatement, [ids]);
}

const insertStatement: Statement = {
  name: "request_insert",
  text: "insert into requests (id, method, hash, response, created_at, subject) values ($1, $2, $3, $4, $5, $6)",
};

export async function insertRequest(tx: Queries, row: Row<"requests">): Promise<void> {
  await tx.query(insertStatement, [row.id, row.method, row.hash, row.response, row.created_at, row.subject]);
}
