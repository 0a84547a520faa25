/**
 * Two records of one person become one, and two again. The survivor keeps its id and gets a new version; the duplicate
 * stays as it is, and its id leads to the survivor. Each is one transaction that holds the locks of both records.
 */
import { insertAuditEntries } from "@pm/kit/audit/audit";
import { AppError, invalidFields } from "@pm/kit/errors";
import { matchesIfMatch } from "@pm/kit/http/etag";
import { violatedConstraint } from "@pm/kit/postgres/database";
import { inTransaction, type Queries } from "@pm/kit/postgres/transaction";
import { isUuid } from "@pm/kit/uuid";
import { type Call, viewerOf } from "../caller.ts";
import type { RecordSettings } from "../config.ts";
import type { PatientDatabase } from "../database.ts";
import { settlePairs } from "../matching/pairs-store.ts";
import { findFor, notFound } from "../patients/access.ts";
import { changePatient } from "../patients/change-store.ts";
import { type Conflicts, claimsOf } from "../patients/conflicts.ts";
import { mergedEvent, unmergedEvent } from "../patients/events.ts";
import { later, lostRace } from "../patients/patients.ts";
import { diffRecords, emailKeyOf, type FieldChange } from "../patients/record.ts";
import { searchWords } from "../patients/search.ts";
import { type Sharing, toGrantees } from "../patients/sharing.ts";
import { followSurvivors, readSharing } from "../patients/sharing-store.ts";
import { type Found, findPatient } from "../patients/store.ts";
import { findConflict, isIdentifierRace, taken } from "../patients/taken-store.ts";
import type { Patient, PatientRecord, StoredGrant } from "../tables.ts";
import { differencesOf, type Levels, levelsOf, unitedGrants, withOwner } from "./grants.ts";
import { type Conflict, type Keep, mergedRecord } from "./records.ts";
import {
  findParent,
  insertMerge,
  leadTo,
  lockRecords,
  noteUndone,
  readDuplicateIds,
  readGrants,
  readMerges,
  release,
  type StoredMerge,
  setGrants,
} from "./store.ts";
import { type Step, undo } from "./undoing.ts";

export type Merging = ReturnType<typeof createMerging>;

type Options = {
  db: PatientDatabase;
  conflicts: Conflicts;
  now: () => Date;
  settings: RecordSettings;
  /** Called after each commit that wrote events. */
  committed: () => void;
};

type Principals = Omit<Sharing, "registeredBy" | "owner">;

/** `added`: who may do more with the survivor than before. */
export type Merged = { dryRun: boolean; patient: Patient; conflicts: Conflict[]; access: Sharing; added: Principals };

/**
 * `changedSince`: what was changed while the records were one. It stays with the survivor, and may be the other one's.
 */
export type Unmerged = { patient: Patient; restored: Patient; changedSince: FieldChange[] };

export type MergeRequest = { duplicateId: string; duplicateVersion: number; keep?: Keep | undefined; dryRun?: boolean | undefined };

export function createMerging(options: Options) {
  const { db, conflicts, settings, committed } = options;
  return {
    /** @throws AppError failed_precondition if a record was merged before, or a list would be too long */
    async merge(call: Call, id: string, request: MergeRequest, ifMatch: string): Promise<Merged> {
      const answer = await inTransaction(db, (tx) => merge(tx, options, call, id, request, ifMatch), retries);
      if (!answer.dryRun) committed();
      return answer;
    },

    /** @throws AppError already_exists if another patient has what the duplicate would get back */
    async unmerge(call: Call, id: string, duplicateId: string, ifMatch: string | undefined): Promise<Unmerged> {
      requireIds(id, duplicateId);
      const duplicate = await findPatient(db, duplicateId, viewerOf(call.caller));
      const claims = duplicate?.mergedInto ? claimsOf(duplicate.record, settings) : [];
      const write = () => inTransaction(db, (tx) => unmerge(tx, options, call, id, duplicateId, ifMatch), retries);
      const answer = await conflicts.counted(call, id, claims, write);
      committed();
      return answer;
    },
  };
}

/** Writes the next version of a survivor that is locked, and its grants. */
async function writeSurvivor(tx: Queries, { settings }: Options, call: Call, found: Found, next: Next): Promise<Patient> {
  const { id, version } = found;
  const { action, record, at, event, before, grants } = next;
  const fields = diffRecords(found.record, record).map(({ field }) => field);
  const emails = { emailKey: emailKeyOf(record, settings), keepsEmail: found.record.email === record.email };
  const content = { record, before: found.record, ...emails, words: searchWords(record), fields, event, deleted: false };
  const who = { actor: call.actorId, requestId: call.requestId };
  if (!(await changePatient(tx, { ...who, ...content, action, id, version, at }))) throw new Error("a record that was locked has changed");
  await setGrants(tx, id, grants);
  await followSurvivors(tx, [id]);
  const details = differencesOf(before, levelsOf(grants));
  if (Object.values(details).some((principals) => principals.length > 0))
    await insertAuditEntries(tx, [{ ...call, action: "patient.shared", subject: id, details }]);
  return { ...found, version: version + 1, record, updatedAt: at, replaces: await replacesOf(tx, id) };
}

/** The records that lead to this one. */
async function replacesOf(tx: Queries, id: string): Promise<string[] | undefined> {
  const ids = await readDuplicateIds(tx, id);
  return ids.length > 0 ? ids : undefined;
}

async function merge(tx: Queries, options: Options, call: Call, id: string, request: MergeRequest, ifMatch: string): Promise<Merged> {
  const { duplicateVersion, keep = {}, dryRun = false } = request;
  const [survivor, duplicate] = await lockBoth(tx, call, id, request.duplicateId);
  requireVersion(survivor, ifMatch);
  if (duplicate.version !== duplicateVersion) throw lostRace(duplicate.version, "duplicateVersion: the duplicate");
  const at = later(options.now(), survivor, duplicate);
  const { record, conflicts } = mergedRecord(survivor.record, duplicate.record, keep);
  const [survivorGrants, duplicateGrants] = [await readGrants(tx, survivor.id), await readGrants(tx, duplicate.id)];
  const before = levelsOf(survivorGrants);
  const brought = duplicate.owner === survivor.owner ? levelsOf(duplicateGrants) : withOwner(levelsOf(duplicateGrants), duplicate.owner);
  const after = unitedGrants(before, brought);
  const version = survivor.version + 1;
  let patient: Patient = { ...survivor, version, record, updatedAt: at };
  if (dryRun)
    for (const read of [survivor, duplicate])
      await insertAuditEntries(tx, [{ ...call, action: "patient.read", subject: read.id, details: { version: read.version } }]);
  else {
    const [survivorId, duplicateId] = [survivor.id, duplicate.id];
    await leadTo(tx, { duplicateId, survivorId, at });
    const event = mergedEvent(survivorId, version, at, call.traceparent, record, duplicateId);
    const grants = toRows(after, survivorGrants, call, at);
    patient = await writeSurvivor(tx, options, call, survivor, { action: "merged", record, at, event, before, grants });
    const kept = { survivorId, survivorVersion: version, survivorGrants, duplicateId, duplicateVersion };
    await insertMerge(tx, { ...kept, duplicateOwner: duplicate.owner, duplicateGrants, actor: call.actorId, at });
    await settlePairs(tx, [[survivorId, duplicateId]], "merged", call.actorId);
    const details = { survivorId, survivorVersion: version };
    await insertAuditEntries(tx, [{ ...call, action: "patient.merged_into", subject: duplicateId, details }]);
  }
  const { registeredBy, owner } = await readSharing(tx, { id: survivor.id, actor: call.actorId, requestId: call.requestId });
  const access = { registeredBy, owner, ...toGrantees(toGrants(after)) };
  const added = toGrantees(toGrants(new Map([...after].filter(([principal, canWrite]) => before.get(principal) !== canWrite))));
  return { dryRun, patient, conflicts, access, added };
}

async function unmerge(
  tx: Queries,
  options: Options,
  call: Call,
  id: string,
  duplicateId: string,
  ifMatch: string | undefined,
): Promise<Unmerged> {
  await lockRecords(tx, [id, duplicateId]);
  const survivor = await findFor(tx, call, id, "write");
  if (survivor.deletedAt) throw notFound(id);
  requireVersion(survivor, ifMatch);
  const duplicate = await findFor(tx, call, duplicateId, "read");
  if (duplicate.mergedInto !== survivor.id)
    throw new AppError("failed_precondition", "duplicateId: is not merged into this record.", { reason: "NOT_MERGED" });
  const merges = await readMerges(tx, survivor.id);
  const own = merges.find((merge) => merge.duplicateId === duplicate.id && merge.undoneVersion === undefined);
  if (!own) throw await nested(tx, duplicate.id);
  // The versions that had the data of a record that was erased since are empty.
  if (merges.some(({ before, after }) => before.name === undefined || after.name === undefined))
    throw new AppError(
      "failed_precondition",
      "Another record that was merged into this one was erased, so nobody can tell any more what belongs to whom.",
      {
        reason: "MERGED_RECORD_ERASED",
      },
    );
  const current = await readGrants(tx, survivor.id);
  const before = levelsOf(current);
  // The row has a record number too that the platform gave after the version was written.
  const steps = merges.map((merge) => toStep(merge === own ? { ...merge, duplicate: duplicate.record } : merge));
  const undone = undo(steps, duplicate.id, { record: survivor.record, grants: before });
  if (!undone) throw new Error("a merge that holds is not among the merges");
  const at = later(options.now(), survivor, duplicate);
  const version = survivor.version + 1;
  const { record, grants } = undone.state;
  const event = unmergedEvent(survivor.id, version, at, call.traceparent, record, duplicate.id);
  // First, because the duplicate gets its identifiers and its e-mail back.
  const next = { action: "unmerged", record, at, event, before, grants: toRows(grants, current, call, at) } as const;
  const written = await writeSurvivor(tx, options, call, survivor, next);
  await giveBack(tx, duplicate, own.duplicateOwner, at);
  const patient = { ...written, replaces: await replacesOf(tx, survivor.id) };
  await setGrants(tx, duplicate.id, own.duplicateGrants);
  await followSurvivors(tx, [duplicate.id]);
  await noteUndone(tx, { duplicateId: duplicate.id, version, actor: call.actorId, at });
  await settlePairs(tx, [[survivor.id, duplicate.id]], "not_the_same", call.actorId);
  const details = { survivorId: survivor.id, survivorVersion: version, owner: own.duplicateOwner };
  await insertAuditEntries(tx, [
    { ...call, action: "patient.unmerged_from", subject: duplicate.id, details },
    { ...call, action: "patient.shared", subject: duplicate.id, details: differencesOf(before, levelsOf(own.duplicateGrants)) },
  ]);
  const replaces = await replacesOf(tx, duplicate.id);
  const restored = { ...duplicate, updatedAt: at, deletedAt: undefined, mergedInto: undefined, replaces };
  return { patient, restored, changedSince: diffRecords(undone.left.record, survivor.record) };
}

/** Many may merge the same records at once, and a third patient may take an identifier that a record is to get back. */
const retries = { tries: 8, isConflict: isIdentifierRace };

type Next = {
  action: "merged" | "unmerged";
  record: PatientRecord;
  at: Date;
  event: ReturnType<typeof mergedEvent>;
  before: Levels;
  grants: StoredGrant[];
};

function requireIds(id: string, duplicateId: string): void {
  if (!isUuid(id)) throw notFound(id);
  if (!isUuid(duplicateId)) throw invalidFields([{ path: "duplicateId", message: "must be the id of a record" }]);
  if (id.toLowerCase() === duplicateId.toLowerCase())
    throw invalidFields([{ path: "duplicateId", message: "must be another record than the one that stays" }]);
}

/** Locks two living records that the caller may write. */
async function lockBoth(tx: Queries, call: Call, id: string, duplicateId: string): Promise<[Found, Found]> {
  requireIds(id, duplicateId);
  await lockRecords(tx, [id, duplicateId]);
  const survivor = await findFor(tx, call, id, "write");
  if (survivor.deletedAt) throw notFound(id);
  const duplicate = await findFor(tx, call, duplicateId, "write");
  if (duplicate.deletedAt) throw notFound(duplicateId);
  return [survivor, duplicate];
}

function requireVersion({ version }: Found, ifMatch: string | undefined): void {
  if (ifMatch !== undefined && !matchesIfMatch(ifMatch, `"${version}"`)) throw lostRace(version);
}

function toStep(merge: StoredMerge): Step {
  const { duplicateId, version, undoneVersion, duplicateOwner } = merge;
  const had = levelsOf(merge.survivorGrants);
  const grants = withOwner(levelsOf(merge.duplicateGrants), duplicateOwner);
  return {
    ...{ duplicateId, version, undoneVersion },
    before: { record: merge.before, grants: had },
    after: { record: merge.after, grants: unitedGrants(had, grants) },
    duplicate: { record: merge.duplicate, grants },
  };
}

/** Grants as rows. Those that are there already stay as they are. */
function toRows(levels: Levels, current: StoredGrant[], { actorId }: Call, at: Date): StoredGrant[] {
  const known = new Map(current.map((grant) => [grant.principal, grant]));
  return [...levels].map(([principal, can_write]) => {
    const old = known.get(principal);
    return old?.can_write === can_write ? old : { principal, can_write, granted_by: actorId, granted_at: at.toISOString() };
  });
}

const toGrants = (levels: Levels) =>
  [...levels].map(([principal, canWrite]) => ({ principal, canWrite })).sort((a, b) => (a.principal < b.principal ? -1 : 1));

async function nested(tx: Queries, duplicateId: string): Promise<AppError> {
  const mergedInto = (await findParent(tx, duplicateId)) ?? "";
  const message = `duplicateId: was merged into ${mergedInto}, and that one into this record. Undo the merge of ${mergedInto} first.`;
  return new AppError("failed_precondition", message, { reason: "MERGED_BEFORE", metadata: { mergedInto } });
}

/** @throws AppError already_exists if a third patient took the e-mail or an identifier meanwhile */
async function giveBack(tx: Queries, { id, record }: Found, owner: string, at: Date): Promise<void> {
  const conflict = await findConflict(tx, id, record);
  if (conflict !== "email") throw taken(conflict);
  try {
    await release(tx, { duplicateId: id, owner, at });
  } catch (error) {
    if (["patients_email", "patients_email_key"].includes(violatedConstraint(error) ?? "")) throw taken("email");
    throw error;
  }
}
