/** The tables of billing as types. `test/tables.int.test.ts` compares them with the migrations. */
import type { AuditTables } from "@pm/kit/audit/audit";
import type { CheckTables } from "@pm/kit/checks";
import type { OutboxTables } from "@pm/kit/kafka/outbox";
import type { Database } from "@pm/kit/postgres/database";
import type { Generated, Selectable } from "kysely";

export type AccountStatus = "ACTIVE" | "SUSPENDED" | "CLOSED";
export type PayerKind = "PERSON" | "ORGANISATION";

/** Whom an invoice is addressed to: a payer, or else the patient, with an empty `payerId`. */
export type Addressee = { payerId: string; name: string; address: string; email: string; reference: string; patientName: string };

/** Amounts are minor units of the account's currency. A date is `YYYY-MM-DD`. */
export type Tables = {
  accounts: {
    id: string;
    patient_id: string;
    currency: string;
    status: Generated<AccountStatus>;
    name: string;
    email: string;
    receivable: Generated<bigint>;
    credit: Generated<bigint>;
    revenue: Generated<bigint>;
    cash: Generated<bigint>;
    bad_debt: Generated<bigint>;
    tax_payable: Generated<bigint>;
    transaction_count: Generated<bigint>;
    /** Null if the patient pays. */
    payer_id: string | null;
    version: Generated<bigint>;
    created_at: Date;
    updated_at: Date;
    /** Since when only administrators read its names and texts. */
    restricted_at: Date | null;
    erased_at: Date | null;
    /** The account of the survivor, if the patient's record was merged. */
    merged_into: string | null;
    link_revision: Generated<bigint>;
    had_links: Generated<boolean>;
  };
  payers: {
    id: string;
    kind: PayerKind;
    name: string;
    address: string;
    email: string;
    reference: string;
    version: Generated<bigint>;
    created_at: Date;
    updated_at: Date;
  };
  /** `subject` is the account or the payer that the answer is about; null in those of the release before. */
  requests: { id: string; method: string; hash: Uint8Array; response: Uint8Array; created_at: Date; subject: string | null };
  transactions: {
    id: string;
    account_id: string;
    sequence: bigint;
    type: "CHARGE" | "VOID" | "PAYMENT" | "REFUND" | "REALLOCATION" | "DISCOUNT" | "CREDIT_NOTE" | "WRITE_OFF";
    amount: bigint;
    balance: bigint;
    charge_id: string | null;
    payment_id: string | null;
    refund_id: string | null;
    description: string;
    request_id: string;
    created_at: Date;
  };
  entries: {
    transaction_id: string;
    ledger_account: "RECEIVABLE" | "CREDIT" | "REVENUE" | "CASH" | "BAD_DEBT" | "TAX_PAYABLE";
    currency: string;
    amount: bigint;
  };
  allocations: { transaction_id: string; payment_id: string; charge_id: string; amount: bigint };
  /** What a discount, a credit note or a write-off takes off a charge. */
  reductions: {
    transaction_id: string;
    charge_id: string;
    amount: bigint;
    /** The tax in it; zero for a write-off, which leaves the tax payable. */
    tax: Generated<bigint>;
  };
  charges: {
    id: string;
    account_id: string;
    sequence: bigint;
    transaction_id: string;
    /** With its tax. */
    amount: bigint;
    /** Empty without tax. */
    tax_code: Generated<string>;
    /** In basis points. */
    tax_rate: Generated<number>;
    /** The tax in what discounts and credit notes have left of it; zero if it is void. */
    tax_payable: Generated<bigint>;
    settled: Generated<bigint>;
    /** By discounts and credit notes. */
    reduced: Generated<bigint>;
    written_off: Generated<bigint>;
    description: string;
    service_date: string;
    invoice_id: string | null;
    created_at: Date;
    voided_at: Date | null;
  };
  payments: {
    id: string;
    account_id: string;
    sequence: bigint;
    transaction_id: string;
    amount: bigint;
    allocated: Generated<bigint>;
    refunded: Generated<bigint>;
    method: string;
    reference: string;
    /** Null if an earlier release has recorded it. */
    payment_date: string | null;
    created_at: Date;
  };
  refunds: { id: string; payment_id: string; transaction_id: string; amount: bigint; reason: string; created_at: Date };
  invoices: {
    id: string;
    account_id: string;
    number: string | null;
    status: "DRAFT" | "ISSUED" | "VOID";
    total: bigint;
    issue_date: string | null;
    due_date: string | null;
    version: Generated<bigint>;
    /** As it was at issue. Null for a draft, and for an invoice that an earlier release has issued. */
    addressee: Addressee | null;
    created_at: Date;
    voided_at: Date | null;
    void_reason: string | null;
  };
  invoice_lines: {
    invoice_id: string;
    position: number;
    charge_id: string;
    description: string;
    service_date: string;
    amount: bigint;
  };
  invoice_years: { year: number; last_number: number };
  credit_notes: {
    id: string;
    account_id: string;
    invoice_id: string;
    transaction_id: string;
    number: string;
    issue_date: string;
    total: bigint;
    reason: string;
    created_at: Date;
  };
  credit_note_years: { year: number; last_number: number };
  erasures: { id: string; patient_id: string; erased_at: Generated<Date>; erased: Record<string, number> };
} & AuditTables &
  CheckTables &
  OutboxTables;

/** A row of a table as a query gives it. */
export type Row<Table extends keyof Tables> = Selectable<Tables[Table]>;

export type BillingDatabase = Database<Tables>;
