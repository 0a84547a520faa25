/** Many writes in one transaction, all or none. Each of them is written as it would be alone. */
import { randomUUIDv7 } from "node:crypto";
import { insertAuditEntries } from "@pm/kit/audit/audit";
import { AppError, invalidFields } from "@pm/kit/errors";
import { inTransaction, type Queries } from "@pm/kit/postgres/transaction";
import { type Call, viewerOf } from "../caller.ts";
import { type BatchedWrite, recordNumberSystem } from "../tables.ts";
import {
  asOperation,
  type Context,
  type Creations,
  claimantOf,
  idsOf,
  newcomersOf,
  type Operation,
  type Options,
  type Plan,
  planAll,
} from "./batch-planning.ts";
import { type Result, replay, resultsOf } from "./batch-replay.ts";
import { type BatchKey, claimKey, findKey, insertWords, keepResults, lockPatients } from "./batch-store.ts";
import { changePatient } from "./change-store.ts";
import { claimsOf } from "./conflicts.ts";
import { withRecordNumber } from "./identifiers.ts";
import { changed, changeOf } from "./patients.ts";
import { searchWords } from "./search.ts";
import { findConflict, findHolder, isIdentifierRace, taken } from "./taken-store.ts";
import { collectPatients, insertCollected, sha256 } from "./write-store.ts";

type Answer = { results: Result[]; repeated: boolean };

/** Two batches that write the same addresses in another order may still deadlock; then one of them is done again. */
const tries = 8;

/** How often record numbers are taken again, if somebody brought them meanwhile. */
const maxNumbers = 5;
class NumberTaken extends Error {}

/** After a lost race for an identifier, the transaction takes no further statement. The next try finds who won. */
const isConflict = (error: unknown): boolean =>
  isIdentifierRace(error) || (error instanceof Error && "code" in error && error.code === "25P02");

export function createBatches(options: Options) {
  const { db, billing, conflicts, settings, committed } = options;

  /** The answer again, if the key was used before. */
  async function repeat(call: Call, key: BatchKey | undefined): Promise<Answer | undefined> {
    const used = key && (await findKey(db, key));
    return used && { results: await replay(db, call, resultsOf(used, key)), repeated: true };
  }

  async function write(call: Call, operations: Operation[], key: BatchKey | undefined): Promise<Answer> {
    const newcomers = await newcomersOf(options, call, operations);
    let write = () =>
      withNumbers(options, newcomers, (creations) =>
        inTransaction(db, (tx) => apply(tx, { ...options, creations }, call, operations, key), { tries, isConflict }),
      );
    // What a refusal tells of patients whom the caller may not see is counted for each operation.
    if (!viewerOf(call.caller).seesAll)
      for (const plan of await planAll(db, { ...options, creations: newcomers }, call, operations)) {
        const [id, record, before] = claimantOf(plan);
        const inner = write;
        write = () => conflicts.counted(call, id, claimsOf(record, settings, before), inner);
      }
    const written = await write();
    if ("used" in written) return { results: await replay(db, call, written.used), repeated: true };
    committed();
    const token = call.caller.kind === "service" ? undefined : call.caller.token;
    const open = async (result: Result): Promise<Result> => {
      const { status, patient } = result;
      if (status !== 201 || !patient) return result;
      const { name, email } = patient.record;
      const accountId = await billing.open({ patient: { patientId: patient.id, name, email }, token, traceparent: call.traceparent });
      return { ...result, patient: { ...patient, accountId } };
    };
    return { results: await Promise.all(written.results.map(open)), repeated: false };
  }

  return {
    /**
     * Does all operations, or none. The same operations under the same idempotency key get the first answer again.
     * @throws AppError that names the operation that cannot be done
     */
    async run(call: Call, operations: Operation[], key: string | undefined): Promise<Answer> {
      requireOnce(operations);
      const hash = sha256(JSON.stringify(operations));
      const batchKey = key === undefined ? undefined : { actor: call.actorId, key, hash, batchId: randomUUIDv7() };
      const before = await repeat(call, batchKey);
      if (before) return before;
      try {
        return await write(call, operations, batchKey);
      } catch (error) {
        // The same request may have finished since, and changed what this one was checked against.
        const meanwhile = error instanceof AppError ? await repeat(call, batchKey) : undefined;
        if (!meanwhile) throw error;
        return meanwhile;
      }
    },
  };
}

/** Two operations on one patient would depend on each other. */
function requireOnce(operations: Operation[]): void {
  const first = new Map<string, number>();
  const problems = operations.flatMap((operation, index) => {
    if (operation.method === "create") return [];
    const id = operation.id.toLowerCase();
    const earlier = first.get(id);
    if (earlier !== undefined) return [{ path: `operations[${index}].id`, message: `is also the id of operation ${earlier}` }];
    first.set(id, index);
    return [];
  });
  if (problems.length > 0) throw invalidFields(problems);
}

/** Gives record numbers to those without one, before the transaction, which must not wait for another connection. */
async function withNumbers<Result>(
  { recordNumbers }: Options,
  newcomers: Creations,
  work: (creations: Creations) => Promise<Result>,
): Promise<Result> {
  for (let number = 1; ; number++) {
    const creations: Creations = new Map();
    for (const [index, { patient, isNumbered }] of newcomers) {
      const record = isNumbered ? patient.record : withRecordNumber(patient.record, await recordNumbers.next());
      creations.set(index, { patient: { ...patient, record, words: searchWords(record) }, isNumbered });
    }
    try {
      return await work(creations);
    } catch (error) {
      if (!(error instanceof NumberTaken)) throw error;
      if (number === maxNumbers) throw taken({ system: recordNumberSystem });
      recordNumbers.clear();
    }
  }
}

/** The transaction. Patients are locked first, deletions make room for creations, and these for changes. */
async function apply(
  tx: Queries,
  options: Context,
  call: Call,
  operations: Operation[],
  key: BatchKey | undefined,
): Promise<{ used: BatchedWrite[] } | { results: Result[] }> {
  const used = key && (await claimKey(tx, key));
  if (used) return { used: resultsOf(used, key) };
  await lockPatients(tx, idsOf(operations));
  // Whatever was found before may have changed: a merge and the end of a share leave the version as it was.
  const plans = await planAll(tx, options, call, operations);
  const creations = plans.filter((plan) => plan.kind === "create");
  const changes = plans.filter((plan) => plan.kind === "change").sort((a, b) => (a.found.id < b.found.id ? -1 : 1));
  const records = plans.flatMap((plan) =>
    plan.kind === "create" ? plan.patient.record : plan.next && !plan.next.deleted ? plan.next.record : [],
  );
  await insertWords(
    tx,
    records.flatMap((record) => searchWords(record).names),
  );
  const results = new Map<number, Result>();
  for (const plan of changes.filter(({ next }) => next?.deleted)) results.set(plan.index, await change(tx, options, call, plan));
  for (const [index, result] of await create(tx, call, creations)) results.set(index, result);
  for (const plan of changes.filter(({ next }) => !next?.deleted)) results.set(plan.index, await change(tx, options, call, plan));
  const ordered = plans.map(({ index }) => results.get(index) as Result);
  if (key)
    await keepResults(
      tx,
      key,
      ordered.map(({ status, id, version }) => ({ status, id, version })),
    );
  return { results: ordered };
}

async function create(tx: Queries, call: Call, plans: (Plan & { kind: "create" })[]): Promise<[number, Result][]> {
  const left = await insertCollected(tx, collectPatients(plans.map(({ patient }) => patient)));
  for (const { index, patient, isNumbered } of plans) {
    const conflict = left.get(patient.id);
    if (conflict === undefined) continue;
    if (!isNumbered && conflict !== "email" && conflict.system === recordNumberSystem) throw new NumberTaken();
    const holder = await findHolder(tx, patient.id, patient.record, conflict, viewerOf(call.caller));
    await asOperation(index, () => {
      throw taken(conflict, holder);
    });
  }
  return plans.map(({ index, patient: { id, record, at: moment } }) => {
    const patient = { id, version: 1, record, createdAt: moment, updatedAt: moment, accountId: undefined };
    return [index, { status: 201, id, version: 1, patient }];
  });
}

function change(
  tx: Queries,
  { settings }: Options,
  call: Call,
  { index, found, next, at: moment }: Plan & { kind: "change" },
): Promise<Result> {
  const { id, version } = found;
  return asOperation(index, async () => {
    if (!next && found.deletedAt) return { status: 204, id, version };
    if (!next) {
      await insertAuditEntries(tx, [{ ...call, action: "patient.read", subject: id, details: { version } }]);
      return { status: 200, id, version, patient: found };
    }
    if (!next.deleted) {
      const conflict = await findConflict(tx, id, next.record);
      if (conflict !== "email") throw taken(conflict, await findHolder(tx, id, next.record, conflict, viewerOf(call.caller)));
    }
    if (!(await changePatient(tx, changeOf(call, found, next, moment, settings)))) throw new Error("a patient who was locked has changed");
    if (next.deleted) return { status: 204, id, version: version + 1 };
    return { status: 200, id, version: version + 1, patient: changed(found, next, moment) };
  });
}
