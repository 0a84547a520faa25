/** The books of a period: the journal, entry by entry, and the general ledger, account by account. */
import { addDays, localDateAt, startOfDay } from "@pm/kit/calendar";
import { stringify } from "csv-stringify/sync";
import type { BillingDatabase } from "../tables.ts";
import { requirePeriod } from "./history.ts";
import { type JournalEntry, pageOfJournal, sumsOfPeriod } from "./journal-store.ts";

/** Days of the clinic, both included. */
type Days = { from: string; to: string };
type GeneralLedger = Days & {
  accounts: {
    currencyCode: string;
    ledgerAccount: JournalEntry["ledger_account"];
    opening: string;
    debits: string;
    credits: string;
    closing: string;
  }[];
};

type Shows = (accountIds: string[]) => Promise<void>;

export type Books = {
  /**
   * Lines of a file, as fast as its reader.
   * @param shows is told the accounts of each page before it is shown
   * @throws AppError invalid_argument if it is no period
   */
  journal(period: Days, format: "csv" | "ndjson", shows: Shows): AsyncGenerator<string>;
  generalLedger(period: Days): Promise<GeneralLedger>;
};

const pageSize = 2_000;
const firstId = "00000000-0000-0000-0000-000000000000";
const columns = [
  "transactionId",
  "postedAt",
  "day",
  "accountId",
  "sequence",
  "type",
  "description",
  "ledgerAccount",
  "currencyCode",
  "minorUnits",
] as const;

export function createBooks({ db, clinicTimeZone }: { db: BillingDatabase; clinicTimeZone: string }): Books {
  /** From the first moment of the first day to the first moment after the last. */
  function momentsOf({ from, to }: Days): { from: Date; to: Date } {
    requirePeriod({ from, to });
    return { from: new Date(startOfDay(from, clinicTimeZone)), to: new Date(startOfDay(addDays(to, 1), clinicTimeZone)) };
  }

  /** Each page is a query of its own, so a slow reader holds no connection. Entries never change, so no page misses any. */
  async function* entries(period: { from: Date; to: Date }): AsyncGenerator<JournalEntry[]> {
    let [from, after] = [period.from, firstId];
    for (;;) {
      const page = await pageOfJournal(db, { ...period, from }, after, pageSize);
      const last = page.at(-1);
      if (!last) return;
      yield page;
      [from, after] = [last.created_at, last.transaction_id];
    }
  }

  async function* linesOf(period: { from: Date; to: Date }, format: "csv" | "ndjson", shows: Shows): AsyncGenerator<string> {
    if (format === "csv") yield `${columns.join(",")}\n`;
    for await (const page of entries(period)) {
      await shows(page.map((entry) => entry.account_id));
      const rows = page.map((entry) => toLine(entry, clinicTimeZone));
      // Spreadsheets take a cell that begins with =, +, - or @ for a formula. Amounts are numbers, which are none.
      yield format === "csv"
        ? stringify(rows, { columns: [...columns], escape_formulas: true, cast: { bigint: String } })
        : rows.map((row) => `${JSON.stringify({ ...row, sequence: String(row.sequence), minorUnits: String(row.minorUnits) })}\n`).join("");
    }
  }

  return {
    journal: (period, format, shows) => linesOf(momentsOf(period), format, shows),

    async generalLedger(period) {
      const sums = await sumsOfPeriod(db, momentsOf(period));
      return {
        ...period,
        accounts: sums.map(({ currency, ledger_account, opening, debits, credits }) => ({
          ...{ currencyCode: currency, ledgerAccount: ledger_account },
          ...{ opening: String(opening), debits: String(debits), credits: String(credits) },
          closing: String(opening + debits - credits),
        })),
      };
    },
  };
}

function toLine(entry: JournalEntry, clinicTimeZone: string) {
  return {
    transactionId: entry.transaction_id,
    postedAt: entry.created_at.toISOString(),
    day: localDateAt(entry.created_at.getTime(), clinicTimeZone),
    accountId: entry.account_id,
    sequence: entry.sequence,
    type: entry.type,
    description: entry.description,
    ledgerAccount: entry.ledger_account,
    currencyCode: entry.currency,
    minorUnits: entry.amount,
  };
}
