/**
 * Restricted accounts: what the law makes the clinic keep of somebody who is to be erased. Callers with `patient:erase`
 * read them. To everybody else they look as they will when they are erased: amounts, days and numbers are there, so
 * that what is open can be settled, and names and texts are not. Every answer of BillingService and every document
 * passes here after it was read, so a restriction that comes meanwhile counts; the journal asks `concealed` and leaves
 * out descriptions.
 */
import type { DescMessage, Message } from "@bufbuild/protobuf";
import type { GenMessage } from "@bufbuild/protobuf/codegenv2";
import { createBatcher } from "@pm/kit/batcher";
import {
  AddresseeSchema,
  BillingAccountSchema,
  ChargeSchema,
  CreditNoteSchema,
  InvoiceLineSchema,
  InvoiceSchema,
  PayerSchema,
  PaymentSchema,
  RefundSchema,
  StreamStatementResponseSchema,
  TransactionSchema,
} from "@pm/proto/billing/v1/billing";
import type { BillingDatabase } from "../tables.ts";
import { findRestricted } from "./store.ts";

type Reader = { scopes: ReadonlySet<string> };

export type Concealing = {
  /** The message without names and texts that the caller may not read. It may be incomplete, as handlers return it. */
  conceal<Answer extends object>(caller: Reader, schema: DescMessage, answer: Answer): Promise<Answer>;
  /** The same for the parts of a statement, one by one as they are read. */
  parts<Part extends object>(caller: Reader, parts: AsyncIterable<Part>): AsyncGenerator<Part>;
  /** Those of these accounts whose texts the caller may not read. */
  concealed(caller: Reader, accountIds: string[]): Promise<Set<string>>;
};

const maxBatch = 64;

export function createConcealing({ db }: { db: BillingDatabase }): Concealing {
  // Answers that are ready together share a statement.
  const lookups = createBatcher<string[], Set<string>>({
    name: "restricted_accounts",
    maxSize: maxBatch,
    maxInFlight: 4,
    async run(asked) {
      const restricted = new Set(await findRestricted(db, [...new Set(asked.flat())]));
      return asked.map(() => restricted);
    },
  });
  const nothing = new Set<string>();

  async function concealed({ scopes }: Reader, ids: string[]): Promise<Set<string>> {
    return ids.length === 0 || scopes.has("patient:erase") ? nothing : lookups.add([...new Set(ids)]);
  }

  async function conceal<Answer extends object>(caller: Reader, schema: DescMessage, answer: Answer): Promise<Answer> {
    const owned = hasTexts(schema) ? [...ownedTexts(schema, answer as Fields)] : [];
    const restricted = await concealed(
      caller,
      owned.map(({ owner }) => owner),
    );
    for (const { owner, fields, names } of owned) if (restricted.has(owner)) for (const name of names) fields[name] = "";
    return answer;
  }

  return {
    concealed,
    conceal,
    async *parts(caller, parts) {
      for await (const part of parts) yield await conceal(caller, StreamStatementResponseSchema, part);
    },
  };
}

type Fields = Record<string, unknown> & { accountId?: unknown; payerId?: unknown };

/** What identifies somebody: the same that an erasure blanks (migrations). */
export const texts = new Map<DescMessage, string[]>([
  fieldsOf(BillingAccountSchema, "name", "email"),
  fieldsOf(PayerSchema, "name", "address", "email", "reference"),
  fieldsOf(TransactionSchema, "description"),
  fieldsOf(ChargeSchema, "description"),
  fieldsOf(PaymentSchema, "reference"),
  fieldsOf(RefundSchema, "reason"),
  fieldsOf(AddresseeSchema, "name", "address", "email", "reference"),
  fieldsOf(InvoiceSchema, "patientName"),
  fieldsOf(InvoiceLineSchema, "description"),
  fieldsOf(CreditNoteSchema, "reason", "patientName"),
]);

function fieldsOf<M extends Message>(schema: GenMessage<M>, ...names: (keyof M & string)[]): [DescMessage, string[]] {
  return [schema, names];
}

/** Whether messages of a type can have names or texts. */
export function hasTexts(schema: DescMessage, seen = new Set<DescMessage>()): boolean {
  if (texts.has(schema)) return true;
  seen.add(schema);
  return schema.fields.some(({ message }) => message && !seen.has(message) && hasTexts(message, seen));
}

/** Every message with names or texts, and the account or the payer whom they are about. */
function* ownedTexts(schema: DescMessage, fields: Fields, outer = ""): Generator<{ owner: string; fields: Fields; names: string[] }> {
  const own = schema === PayerSchema ? fields.payerId : fields.accountId;
  const owner = typeof own === "string" && own !== "" ? own : outer;
  const names = texts.get(schema);
  if (names && owner !== "") yield { owner, fields, names };
  for (const { localName, message } of schema.fields) {
    const value = fields[localName];
    if (!message || !value || !hasTexts(message)) continue;
    for (const one of Array.isArray(value) ? value : [value]) yield* ownedTexts(message, one as Fields, owner);
  }
}
