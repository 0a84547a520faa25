/** Statements as printable documents. Their rows follow as fast as they are read. */
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { localDateAt } from "@pm/kit/calendar";
import { formatMoney } from "@pm/kit/money";
import { type GetStatementResponse, type Payer, type Transaction, TransactionType } from "@pm/proto/billing/v1/billing";
import type { Money } from "@pm/proto/common/v1/money";
import type { Days, PayerStatement, StatementSums } from "../ledger/statements.ts";
import type { LinkedStatements } from "../links/links.ts";
import { type Clinic, type PrintableDocument, readableDate } from "./document.ts";

const movements: Record<TransactionType, string> = {
  [TransactionType.UNSPECIFIED]: "",
  [TransactionType.CHARGE]: "Charge",
  [TransactionType.VOID]: "Charge voided",
  [TransactionType.PAYMENT]: "Payment",
  [TransactionType.REFUND]: "Refund",
  [TransactionType.REALLOCATION]: "Payment reallocated",
  [TransactionType.DISCOUNT]: "Discount",
  [TransactionType.CREDIT_NOTE]: "Credit note",
  [TransactionType.WRITE_OFF]: "Written off",
};

const statementColumns = [
  { label: "Date", isAmount: false, share: 0.19 },
  { label: "What", isAmount: false, share: 0.41 },
  { label: "Amount", isAmount: true, share: 0.2 },
  { label: "Balance", isAmount: true, share: 0.2 },
];

/** @param clinicTimeZone the zone that gives each transaction its day */
export function statementDocument(
  { statement, parts, linked }: LinkedStatements,
  clinic: Clinic,
  clinicTimeZone: string,
): PrintableDocument {
  const { account, fromDate, toDate, linkedStatements } = statement;
  // Each account is settled by itself, so one may owe while another has credit.
  const isOwed = [statement, ...linkedStatements].some(({ closingBalance }) => (closingBalance?.minorUnits ?? 0n) > 0n);
  async function* rows(): AsyncGenerator<string[][]> {
    for (const [index, account] of [{ statement, parts }, ...linked].entries()) {
      if (index > 0) yield [["", `Account ${account.statement.account?.accountId}`, "", ""]];
      yield [broughtForward("Balance brought forward", account.statement)];
      for await (const { transactions } of account.parts) yield transactions.map((each) => transactionRow(each, clinicTimeZone));
    }
  }
  return {
    title: "Statement of account",
    stamp: undefined,
    clinic,
    addressee: [account?.name ?? "", account?.email ?? ""].filter(Boolean),
    facts: [{ label: "Account", value: account?.accountId ?? "" }, ...periodFacts(fromDate, toDate)],
    table: { caption: "Transactions", columns: statementColumns, rows: rows() },
    totals: [
      ...statementTotals(statement).map(({ label, value }) => ({
        label: linkedStatements.length > 0 ? `${label} (this account)` : label,
        value,
      })),
      ...statement.closingBalances.map((balance) => ({ label: "Balance of all accounts", value: formatMoney(balance) })),
    ],
    notes: isOwed ? [clinic.paymentDetails] : [],
    fileName: `statement-${fromDate}-${toDate}`,
  };
}

/** The accounts one after the other, each with its own balances: the credit of one settles nothing on another. */
export function payerStatementDocument(
  { payer, fromDate, toDate, statement }: Days & { payer: Payer; statement: PayerStatement },
  clinic: Clinic,
  clinicTimeZone: string,
): PrintableDocument {
  const { sums, outstanding, credit, invoiced, accountIds, parts } = statement;
  async function* rows(): AsyncGenerator<string[][]> {
    let current: GetStatementResponse | undefined;
    for await (const { statement: ofAccount, transactions } of parts) {
      const isNext = ofAccount !== current;
      current = ofAccount;
      yield [
        ...(isNext ? [broughtForward(`${ofAccount.account?.name}: balance brought forward`, ofAccount)] : []),
        ...transactions.map((each) => transactionRow(each, clinicTimeZone)),
      ];
    }
  }
  return {
    title: "Statement of accounts",
    stamp: undefined,
    clinic,
    addressee: [payer.name, payer.address, payer.email].filter(Boolean),
    facts: [
      ...(payer.reference ? [{ label: "Your reference", value: payer.reference }] : []),
      { label: "Accounts", value: String(accountIds.length) },
      { label: "Currency", value: outstanding.currencyCode },
      ...periodFacts(fromDate, toDate),
    ],
    table: { caption: "Transactions", columns: statementColumns, rows: rows() },
    totals: [
      ...(credit.minorUnits > 0n
        ? [
            { label: "Open", value: formatMoney(outstanding) },
            { label: "Credit", value: formatMoney(credit) },
          ]
        : []),
      ...statementTotals(sums),
    ],
    notes: [
      ...(outstanding.minorUnits > 0n ? [clinic.paymentDetails] : []),
      `Open today on invoices addressed to you: ${formatMoney(invoiced)}.`,
      ...(outstanding.minorUnits > 0n && credit.minorUnits > 0n ? ["The credit of one account settles nothing on another."] : []),
    ],
    fileName: `statement-${outstanding.currencyCode}-${fromDate}-${toDate}`,
  };
}

function periodFacts(fromDate: string, toDate: string): PrintableDocument["facts"] {
  return [
    { label: "From", value: readableDate(fromDate) },
    { label: "To", value: readableDate(toDate) },
  ];
}

function broughtForward(what: string, { fromDate, openingBalance }: GetStatementResponse): string[] {
  return [readableDate(fromDate), what, "", formatMoney(openingBalance)];
}

/** A payment has the day on which it was made; the order and the balance are those of the days of posting. */
function transactionRow({ createTime, paymentDate, type, description, amount, balance }: Transaction, clinicTimeZone: string): string[] {
  const posted = createTime ? localDateAt(timestampMs(createTime), clinicTimeZone) : "";
  const what = [movements[type], description].filter(Boolean).join(": ");
  const day = paymentDate || posted;
  return [readableDate(day), day === posted ? what : `${what} (posted ${readableDate(posted)})`, formatMoney(amount), formatMoney(balance)];
}

function statementTotals(sums: StatementSums): PrintableDocument["totals"] {
  return [
    { label: "Charged", value: formatMoney(sums.charged) },
    { label: "Voided", value: formatMoney(sums.voided) },
    ...present("Discounted", sums.discounted),
    ...present("Credited", sums.credited),
    ...present("Written off", sums.writtenOff),
    { label: "Paid", value: formatMoney(sums.paid) },
    { label: "Refunded", value: formatMoney(sums.refunded) },
    {
      label: (sums.closingBalance?.minorUnits ?? 0n) < 0n ? "Balance in your favour" : "Balance",
      value: formatMoney(absolute(sums.closingBalance)),
    },
  ];
}

/** A sum that most statements do not have. */
function present(label: string, money: Money | undefined): { label: string; value: string }[] {
  return money && money.minorUnits !== 0n ? [{ label, value: formatMoney(money) }] : [];
}

function absolute(money: Money | undefined): Pick<Money, "currencyCode" | "minorUnits"> | undefined {
  return money && { currencyCode: money.currencyCode, minorUnits: money.minorUnits < 0n ? -money.minorUnits : money.minorUnits };
}
