/** What the operations of a batch are to write. */
import { randomUUIDv7 } from "node:crypto";
import { AppError } from "@pm/kit/errors";
import { matchesIfMatch } from "@pm/kit/http/etag";
import type { Queries } from "@pm/kit/postgres/transaction";
import { isUuid } from "@pm/kit/uuid";
import { headStartMs } from "../billing/accounts.ts";
import { type Call, viewerOf } from "../caller.ts";
import { notFound, requireLevel } from "./access.ts";
import { registeredEvent } from "./events.ts";
import { rulesAt } from "./fields.ts";
import { hasRecordNumber } from "./identifiers.ts";
import { later, lostRace, type Next } from "./patients.ts";
import { diffRecords, emailKeyOf, newRecord, patchedRecord, replacedRecord } from "./record.ts";
import type { RegistrationOptions } from "./registration.ts";
import { searchWords } from "./search.ts";
import { type Found, findPatients } from "./store.ts";
import type { NewPatient } from "./write-store.ts";

export type Operation =
  | { method: "create"; body: unknown }
  | { method: "replace" | "patch"; id: string; ifMatch?: string | undefined; body: unknown }
  | { method: "delete"; id: string; ifMatch?: string | undefined };

/** An operation that was checked. `next` is undefined for a patient that stays as it is. */
export type Plan = { index: number } & (
  | { kind: "create"; patient: NewPatient; isNumbered: boolean }
  | { kind: "change"; found: Found; next: Next | undefined; at: Date }
);
export type Options = Pick<RegistrationOptions, "db" | "billing" | "recordNumbers" | "conflicts" | "now" | "settings" | "committed">;

/** An error, as that of one operation. */
export async function asOperation<Value>(index: number, work: () => Value | Promise<Value>): Promise<Value> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    const { errors, metadata } = error.options;
    const paths = errors?.map(({ path, message }) => ({ path: `operations[${index}].body${path && `.${path}`}`, message }));
    throw new AppError(error.code, `operations[${index}]: ${error.message}`, {
      ...error.options,
      metadata: { ...metadata, operation: String(index) },
      ...(paths && { errors: paths }),
    });
  }
}

type Newcomer = { patient: NewPatient; isNumbered: boolean };
/** Those whom operations create, by the places of these. */
export type Creations = Map<number, Newcomer>;

export async function newcomersOf({ now, settings }: Options, call: Call, operations: Operation[]): Promise<Creations> {
  const newcomers: Creations = new Map();
  for (const [index, operation] of operations.entries()) {
    if (operation.method !== "create") continue;
    const moment = now();
    const id = randomUUIDv7();
    const record = await asOperation(index, () => newRecord(operation.body, rulesAt(moment.getTime(), settings)));
    const who = { actor: call.actorId, requestId: call.requestId, action: "registered" as const };
    const event = registeredEvent(id, moment, call.traceparent, record);
    const emailKey = emailKeyOf(record, settings);
    const billingAt = new Date(moment.getTime() + headStartMs);
    const patient = { ...who, id, at: moment, record, emailKey, words: searchWords(record), event, billingAt };
    newcomers.set(index, { patient, isNumbered: hasRecordNumber(record) });
  }
  return newcomers;
}

export type Context = Options & { creations: Creations };
/** Checks operations against the patients as they are now, and makes what they write. */
export async function planAll(db: Queries, options: Context, call: Call, operations: Operation[]): Promise<Plan[]> {
  const found = await findPatients(db, idsOf(operations), viewerOf(call.caller));
  const plans: Plan[] = [];
  for (const [index, operation] of operations.entries())
    plans.push(await asOperation(index, () => planOf(options, found, operation, index)));
  return plans;
}

/** The patients whom operations change. */
export const idsOf = (operations: Operation[]): string[] =>
  operations.flatMap((operation) => (operation.method === "create" || !isUuid(operation.id) ? [] : [operation.id]));

function planOf({ now, settings, creations }: Context, patients: Map<string, Found>, operation: Operation, index: number): Plan {
  if (operation.method === "create") return { index, kind: "create", ...(creations.get(index) as Newcomer) };
  const { method, id, ifMatch } = operation;
  const found = requireLevel(patients.get(id.toLowerCase()), id, method === "delete" ? "manage" : "write");
  if (ifMatch !== undefined && !matchesIfMatch(ifMatch, `"${found.version}"`)) throw lostRace(found.version);
  const moment = later(now(), found);
  if (found.deletedAt && method === "delete") return { index, kind: "change", found, next: undefined, at: moment };
  if (found.deletedAt) throw notFound(id);
  if (method === "delete")
    return { index, kind: "change", found, next: { action: "deleted", record: found.record, deleted: true }, at: moment };
  const rules = rulesAt(moment.getTime(), settings);
  const record = (method === "replace" ? replacedRecord : patchedRecord)(operation.body, found.record, rules);
  const isSame = diffRecords(found.record, record).length === 0;
  return { index, kind: "change", found, next: isSame ? undefined : { action: "updated", record, deleted: false }, at: moment };
}

/** Who is to have a record, which it is, and which they have. */
export function claimantOf(plan: Plan) {
  if (plan.kind === "create") return [undefined, plan.patient.record, undefined] as const;
  const { found, next } = plan;
  return [found.id, next?.record ?? found.record, found.record] as const;
}
