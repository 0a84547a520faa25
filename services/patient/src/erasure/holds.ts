/** What the law makes a clinic keep of a patient, and what therefore stops an erasure. */
import { toDate } from "@pm/kit/calendar";
import { AppError } from "@pm/kit/errors";
import type { ErasureHolds } from "@pm/proto/billing/v1/internal";

export const holdKinds = ["legalHold", "record", "openBalance", "invoices"] as const;

/** `until`: the day on which it ends by itself. */
export type Hold = { kind: (typeof holdKinds)[number]; message: string; until?: string };

/** The holds of this service. */
export function holdsOfRecord({ isOnHold, keepUntil }: { isOnHold: boolean; keepUntil: Date }, now: Date): Hold[] {
  const until = toDate(keepUntil.getTime());
  const isYoung = keepUntil > now;
  return [
    ...(isOnHold ? [{ kind: "legalHold" as const, message: "is in force; end it by DELETE /patients/{id}/hold" }] : []),
    ...(isYoung ? [{ kind: "record" as const, message: `has to be kept until ${until} (RECORD_RETENTION_YEARS)`, until }] : []),
  ];
}

export function holdsOfBilling(holds: ErasureHolds | undefined): Hold[] {
  if (!holds) return [];
  const { outstanding, credit, invoiceCount, keepUntilDate: until } = holds;
  const open = "of the account is open; collect, refund or write it off first";
  const invoices = `have to be kept until ${until} (BILLING_RETENTION_YEARS); they are ${invoiceCount}, with credit notes`;
  return [
    ...(outstanding || credit ? [{ kind: "openBalance" as const, message: open }] : []),
    ...(invoiceCount > 0 ? [{ kind: "invoices" as const, message: invoices, until }] : []),
  ];
}

/** The refusal that names everything that stops an erasure. */
export function held(holds: Hold[]): AppError {
  const errors = holds.map(({ kind, message }) => ({ path: kind, message }));
  const list = errors.map(({ path, message }) => `${path} ${message}`).join("; ");
  const message = `This patient cannot be erased now: ${list}. With "restrict": true, what is not held goes now, and the rest later.`;
  return new AppError("failed_precondition", message, { reason: "ERASURE_HELD", errors });
}
