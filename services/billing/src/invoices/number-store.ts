/** The numbers of invoices and credit notes, without gaps within a year. */
import type { Statement } from "@pm/kit/postgres/database";
import type { Queries } from "@pm/kit/postgres/transaction";

// The row of the year stays locked until the transaction ends. So nobody takes the next number before this one is
// committed, and numbers have no gaps.
const nextOf = (table: "invoice_years" | "credit_note_years"): Statement => ({
  name: `${table}_next`,
  text: `insert into ${table} (year, last_number) values ($1, 1)
    on conflict (year) do update set last_number = ${table}.last_number + 1 returning last_number`,
});

const series = {
  invoice: { statement: nextOf("invoice_years"), prefix: "" },
  creditNote: { statement: nextOf("credit_note_years"), prefix: "CN-" },
};

/** The next number of the year of a day: `2026-000001` or `CN-2026-000001`. */
export async function nextNumber(tx: Queries, of: keyof typeof series, issueDate: string): Promise<string> {
  const { statement, prefix } = series[of];
  const year = Number(issueDate.slice(0, 4));
  const [row] = await tx.query<{ last_number: number }>(statement, [year]);
  return `${prefix}${year}-${String(row?.last_number).padStart(6, "0")}`;
}
