/** The books of a period: the journal by entries, the general ledger by accounts, and the tax by rates. */
import { addDays, localDateAt, startOfDay } from "@pm/kit/calendar";
import { stringify } from "csv-stringify/sync";
import type { BillingDatabase } from "../tables.ts";
import { type JournalEntry, type LedgerSum, pageOfJournal, sumsOfPeriod, type TaxSum, taxOfPeriod } from "./journal-store.ts";
import { requirePeriod } from "./statements.ts";

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

type Format = "csv" | "ndjson";
type BeforePage = (accountIds: string[]) => Promise<{ concealed: Set<string> }>;

/** All of them throw AppError invalid_argument if it is no period. */
export type Books = {
  /**
   * Lines of a file, as fast as its reader.
   * @param beforePage gets the accounts of each page before it is sent; returns those whose descriptions are left out
   */
  journal(period: Days, format: Format, beforePage: BeforePage): AsyncGenerator<string>;
  generalLedger(period: Days): Promise<GeneralLedger>;
  /** The same as a file, one line for each currency and ledger account. */
  generalLedgerFile(period: Days, format: Format): Promise<string>;
  /** A file. */
  taxSummary(period: Days, format: Format): Promise<string>;
};

const pageSize = 2_000;
const firstId = "00000000-0000-0000-0000-000000000000";
const journalColumns = [
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
];
const ledgerColumns = ["currencyCode", "ledgerAccount", "opening", "debits", "credits", "closing"];
const taxColumns = ["currencyCode", "taxCode", "taxRateBasisPoints", "type", "count", "netMinorUnits", "taxMinorUnits", "grossMinorUnits"];

export function createBooks({ db, clinicTimeZone }: { db: BillingDatabase; clinicTimeZone: string }): Books {
  /** From the first moment of the first day to the first moment after the last. */
  function momentsOf({ from, to }: Days): { from: Date; to: Date } {
    requirePeriod({ from, to });
    return { from: new Date(startOfDay(from, clinicTimeZone)), to: new Date(startOfDay(addDays(to, 1), clinicTimeZone)) };
  }

  /**
   * Each page is a query of its own, so a slow reader holds no connection. Entries never change, so no page misses any.
   */
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

  async function* linesOf(period: { from: Date; to: Date }, format: Format, beforePage: BeforePage): AsyncGenerator<string> {
    if (format === "csv") yield headOf(journalColumns);
    for await (const page of entries(period)) {
      const { concealed } = await beforePage(page.map((entry) => entry.account_id));
      const lines = page.map((entry) => toLine(concealed.has(entry.account_id) ? { ...entry, description: "" } : entry, clinicTimeZone));
      yield toText(lines, journalColumns, format);
    }
  }

  return {
    journal: (period, format, beforePage) => linesOf(momentsOf(period), format, beforePage),

    async generalLedger(period) {
      const lines = (await sumsOfPeriod(db, momentsOf(period))).map(toLedgerLine);
      const accounts = lines.map(({ opening, debits, credits, closing, ...account }) => ({
        ...account,
        ...{ opening: String(opening), debits: String(debits), credits: String(credits), closing: String(closing) },
      }));
      return { ...period, accounts };
    },

    async generalLedgerFile(period, format) {
      return toFile((await sumsOfPeriod(db, momentsOf(period))).map(toLedgerLine), ledgerColumns, format);
    },

    async taxSummary(period, format) {
      const sums = await taxOfPeriod(db, momentsOf(period));
      return toFile(sums.map(toTaxLine), taxColumns, format);
    },
  };
}

function toFile(lines: Record<string, unknown>[], columns: string[], format: Format): string {
  return `${format === "csv" ? headOf(columns) : ""}${toText(lines, columns, format)}`;
}

function headOf(columns: string[]): string {
  return `${columns.join(",")}\n`;
}

/** Lines without a head. Whole numbers that JSON readers would round are texts in NDJSON. */
function toText(lines: Record<string, unknown>[], columns: string[], format: Format): string {
  // Spreadsheets take a cell that begins with =, +, - or @ for a formula. Amounts are numbers, which are none.
  if (format === "csv") return stringify(lines, { columns, escape_formulas: true, cast: { bigint: String } });
  const textOf = (value: unknown) => (typeof value === "bigint" ? String(value) : value);
  const toObject = (line: object) => Object.fromEntries(Object.entries(line).map(([column, value]) => [column, textOf(value)]));
  return lines.map((line) => `${JSON.stringify(toObject(line))}\n`).join("");
}

function toLedgerLine({ currency, ledger_account, opening, debits, credits }: LedgerSum) {
  return { currencyCode: currency, ledgerAccount: ledger_account, opening, debits, credits, closing: opening + debits - credits };
}

function toTaxLine({ currency, code, rate, type, count, gross, tax }: TaxSum) {
  return {
    currencyCode: currency,
    taxCode: code,
    taxRateBasisPoints: rate,
    type,
    count,
    netMinorUnits: gross - tax,
    taxMinorUnits: tax,
    grossMinorUnits: gross,
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
