/** Payers: people and organisations that pay for patients. */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { insertAuditEntries } from "@pm/kit/audit/audit";
import type { Cursors } from "@pm/kit/cursor";
import { AppError, invalidFields } from "@pm/kit/errors";
import { inTransaction, type Queries } from "@pm/kit/postgres/transaction";
import type { RequestContext } from "@pm/kit/request-context";
import {
  type CreatePayerRequest,
  type CreatePayerResponse,
  CreatePayerResponseSchema,
  type ListPayersRequest,
  type ListPayersResponse,
  ListPayersResponseSchema,
  type Payer,
  PayerKind,
  PayerSchema,
  type UpdatePayerRequest,
  type UpdatePayerResponse,
  UpdatePayerResponseSchema,
} from "@pm/proto/billing/v1/billing";
import { later } from "../dates.ts";
import { once, type RequestKey, requireEtag, retries } from "../idempotency/idempotency.ts";
import { readPage } from "../paging.ts";
import type { BillingDatabase, PayerKind as KindOfRow, Row } from "../tables.ts";
import { findPayer, insertPayer, listPayers, lockPayer, type PayerValues, updatePayer } from "./store.ts";

export type Payers = {
  create(request: CreatePayerRequest, key: RequestKey, context: RequestContext): Promise<CreatePayerResponse>;
  /** @throws AppError not_found */
  get(id: string): Promise<Payer>;
  list(request: ListPayersRequest): Promise<ListPayersResponse>;
  update(request: UpdatePayerRequest, key: RequestKey, context: RequestContext): Promise<UpdatePayerResponse>;
};

type PayerOptions = { db: BillingDatabase; cursors: Cursors; now: () => Date; newId: () => string };

export function createPayers({ db, cursors, now, newId }: PayerOptions): Payers {
  return {
    create(request, key, context) {
      const [id, at] = [newId(), now()];
      return inTransaction(
        db,
        (tx) =>
          once(tx, { key, output: CreatePayerResponseSchema, now: at, subject: ({ payer }) => payer?.payerId ?? "", context }, async () => {
            const row = await insertPayer(tx, id, valuesOf(request), at);
            await insertAuditEntries(tx, [{ ...context, action: "payer.created", subject: id }]);
            return create(CreatePayerResponseSchema, { payer: toPayer(row) });
          }),
        retries,
      );
    },

    async get(id) {
      const row = await findPayer(db, id);
      if (!row) throw payerNotFound();
      return toPayer(row);
    },

    async list(request) {
      const filter = { kind: fromKind(request.kind) };
      const { items: payers, nextPageToken } = await readPage(cursors, request, {
        query: ["payers", filter.kind ?? ""],
        read: (page) => listPayers(db, filter, page),
        positionOf: ({ id }) => id,
        schema: PayerSchema,
        toItem: toPayer,
      });
      return create(ListPayersResponseSchema, { payers, nextPageToken });
    },

    async update({ payer: wanted, updateMask }, key, context) {
      if (!wanted) throw invalidFields([{ path: "payer", message: "is required" }]);
      return inTransaction(
        db,
        async (tx) => {
          const current = await lockPayer(tx, wanted.payerId);
          if (!current) throw payerNotFound();
          const at = later(now(), current.updated_at);
          return once(tx, { key, output: UpdatePayerResponseSchema, now: at, subject: () => current.id, context }, async () => {
            requireEtag(wanted.etag, etagOf(current), "payer");
            const row = await changePayer(tx, current, newValues(current, wanted, updateMask?.paths), { at, context });
            return create(UpdatePayerResponseSchema, { payer: toPayer(row) });
          });
        },
        retries,
      );
    },
  };
}

const changeable = ["kind", "name", "address", "email", "reference"] as const;

/** The values that the payer is to have. Without a mask, the values that were sent are the ones to change. */
function newValues(current: Row<"payers">, wanted: Payer, paths: string[] = []): PayerValues {
  const named = changeable.filter((field) => (paths.length > 0 ? paths.includes(field) : wanted[field]));
  const missing = named.filter((field) => (field === "kind" || field === "name") && !wanted[field]);
  if (missing.length > 0) throw invalidFields(missing.map((field) => ({ path: `payer.${field}`, message: "must have a value" })));
  const values = valuesOf(wanted);
  return { ...current, ...Object.fromEntries(named.map((field) => [field, values[field]])) };
}

/** Writes the values, if any differs. Either way the answer shows the payer, so there is an audit entry. */
async function changePayer(
  tx: Queries,
  current: Row<"payers">,
  values: PayerValues,
  { at, context }: { at: Date; context: RequestContext },
): Promise<Row<"payers">> {
  const changed = changeable.filter((field) => values[field] !== current[field]);
  // The audit trail says that a name or an address has changed, but not the values.
  const entry = changed.length > 0 ? { action: "payer.updated", details: { changed } } : { action: "payer.read" };
  await insertAuditEntries(tx, [{ ...context, ...entry, subject: current.id }]);
  return changed.length > 0 ? updatePayer(tx, current.id, values, at) : current;
}

function valuesOf(message: Pick<Payer, keyof PayerValues>): PayerValues {
  const { name, address, email, reference } = message;
  const texts = { name: name.normalize(), address: address.normalize(), email: email.normalize(), reference: reference.normalize() };
  return { kind: fromKind(message.kind) ?? "PERSON", ...texts };
}

const kinds: Record<KindOfRow, PayerKind> = { PERSON: PayerKind.PERSON, ORGANISATION: PayerKind.ORGANISATION };

/** The kind as rows have it; undefined if the message has none. */
function fromKind(kind: PayerKind): KindOfRow | undefined {
  return (Object.keys(kinds) as KindOfRow[]).find((name) => kinds[name] === kind);
}

function etagOf(payer: Pick<Row<"payers">, "version">): string {
  return `v${payer.version}`;
}

function toPayer(row: Row<"payers">): Payer {
  const { name, address, email, reference } = row;
  return create(PayerSchema, {
    ...{ payerId: row.id, kind: kinds[row.kind], name, address, email, reference, etag: etagOf(row) },
    createTime: timestampFromDate(row.created_at),
    updateTime: timestampFromDate(row.updated_at),
  });
}

function payerNotFound(): AppError {
  return new AppError("not_found", "There is no such payer.", { reason: "PAYER_NOT_FOUND" });
}
