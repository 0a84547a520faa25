/** How far imports are, and what was wrong with their lines. */
import { insertIntoAudit } from "@pm/kit/audit/audit";
import { AppError, type FieldError } from "@pm/kit/errors";
import { inTransaction, type Queries } from "@pm/kit/postgres/transaction";
import type { PatientDatabase, Viewer } from "../database.ts";
import { askAboutConflicts, type Claim, unchecked, type Verdict } from "../patients/conflicts-store.ts";
import { type Conflict, isIdentifierRace, taken } from "../patients/taken-store.ts";
import { type CollectedPatients, insertCollected, insertInTurn } from "../patients/write-store.ts";
import { recordNumberSystem } from "../tables.ts";
import { takenKeys } from "./dry-run-store.ts";
import { type FindDuplicates, type LikeOthers, noteDuplicates, refusedDuplicate } from "./duplicates-store.ts";
import type { ImportMode } from "./tables.ts";

/** `prefixHash` covers the first `lines` lines. */
export type ImportProgress = {
  id: string;
  lines: number;
  created: number;
  updated: number;
  unchanged: number;
  failed: number;
  prefixHash: Buffer;
  finished: boolean;
};

type ProgressRow = {
  id: string;
  lines: bigint;
  created: bigint;
  updated: bigint;
  unchanged: bigint;
  failed: bigint;
  prefix_hash: Buffer;
  finished: boolean;
};

const toProgress = (row: ProgressRow): ImportProgress => ({
  id: row.id,
  lines: Number(row.lines),
  created: Number(row.created),
  updated: Number(row.updated),
  unchanged: Number(row.unchanged),
  failed: Number(row.failed),
  prefixHash: row.prefix_hash,
  finished: row.finished,
});

const progressColumns = "id, lines, created, updated, unchanged, failed, prefix_hash, finished";

/** Whether the request that runs an import, by what the import knows, still holds its lease. */
export const isHeld = (imports: string) =>
  `exists (select from file_transfers t where t.id = ${imports}.transfer_id and t.expires_at > now())`;

const beginStatement = {
  name: "imports_begin",
  text: `
    with begun as (
      insert into imports (id, caller, key, dry_run, mode, transfer_id, prefix_hash) values ($1, $2, $3, $4, $6, $7, '') on conflict (caller, key) do nothing
      returning ${progressColumns}
    ), audited as (
      ${insertIntoAudit}
      select $2, 'import.begun', id, $5, jsonb_build_object('dryRun', $4::boolean, 'mode', $6::text) from begun
    )
    select * from begun`,
};
const findStatement = {
  name: "imports_find",
  text: `
    with found as (
      update imports i set cancelled_at = null, transfer_id = case when ${isHeld("i")} then transfer_id else $4 end
      where caller = $1 and key = $2 returning ${progressColumns}
    ), audited as (
      ${insertIntoAudit} select $1, 'import.repeated', id, $3, '{}' from found
    )
    select * from found`,
};

type BegunImport = {
  id: string;
  caller: string;
  key: string | null;
  dryRun: boolean;
  mode: ImportMode;
  transferId: string;
  requestId: string;
};

/**
 * Begins an import, or finds the one that began under this key, which stays that of the request that runs it until this
 * one advances it. Either leaves an audit entry: even a dry run says which
 * e-mail addresses belong to patients.
 */
export async function beginImport(
  db: PatientDatabase,
  { id, caller, key, dryRun, mode, transferId, requestId }: BegunImport,
): Promise<ImportProgress> {
  const [begun] = await db.query<ProgressRow>(beginStatement, [id, caller, key, dryRun, requestId, mode, transferId]);
  if (begun) return toProgress(begun);
  const [found] = await db.query<ProgressRow>(findStatement, [caller, key, requestId, transferId]);
  if (!found)
    throw new AppError("unavailable", "The import under this key is just being cleared away. Send it again.", { retryAfterSeconds: 1 });
  return toProgress(found);
}

const advanceStatement = {
  name: "imports_advance",
  text: `
    with advanced as (
      update imports set lines = $3, created = created + $4, failed = failed + $5, prefix_hash = $6, finished = $8, updated = updated + $9,
        unchanged = unchanged + $10, transfer_id = $11, updated_at = now()
      where id = $1 and lines = $2 and not finished and cancelled_at is null returning ${progressColumns}
    ), failures as (
      insert into import_errors (import_id, line, errors)
      select advanced.id, f.line, f.errors from advanced, json_to_recordset($7) as f(line bigint, errors jsonb)
    )
    select * from advanced`,
};

const cancelledStatement = {
  name: "imports_cancelled",
  text: `select cancelled_at is not null as "isCancelled" from imports where id = $1`,
};
export const cancelledReason = "IMPORT_CANCELLED";

/** Names of unknown fields may have what Postgres refuses: U+0000 and halves of surrogate pairs. */
const storable = (text: string) => text.toWellFormed().replaceAll("\0", "\uFFFD");

/** What is wrong with a line. `column` is what the file calls the field, if that is another name. */
type LineError = FieldError & { column?: string };

const named =
  ({ columnOf }: Step) =>
  ({ path, message }: FieldError): LineError => {
    const column = columnOf?.(path);
    return { path: storable(path), ...(column && column !== path && { column: storable(column) }), message };
  };

/** A report has this many errors. A file with more of them is most likely wrong as a whole. */
const maxReported = 10_000;

/**
 * A line that is right. `claims` are what may be there once among living patients. `getsNumber`: the platform gives the
 * record number. What changes a patient, `patientId`, is done already, or is a dry run.
 */
export type Imported = {
  line: number;
  id: string;
  outcome: "created" | "updated" | "unchanged";
  patientId?: string;
  claims: Claim[];
  getsNumber: boolean;
};

/** The next lines of an import: patients to create, and lines that are wrong. */
export type Step = {
  viewer: Viewer;
  requestId: string;
  before: ImportProgress;
  dryRun: boolean;
  transferId: string;
  /** Nothing is stored once it has aborted. */
  signal: AbortSignal;
  /** Lines done after this step, and the hash over all of them. */
  lines: number;
  prefixHash: Buffer;
  finished: boolean;
  imported: Imported[];
  /** The patients of those lines. */
  patients: CollectedPatients;
  failures: { line: number; errors: FieldError[] }[];
  columnOf?: ((path: string) => string | undefined) | undefined;
  duplicates: FindDuplicates;
  refusesDuplicates: boolean;
};

/**
 * Creates patients and notes how far the import is, in one transaction.
 * @throws AppError failed_precondition if another request has advanced this import meanwhile, or it was cancelled
 */
export async function advanceImport(db: PatientDatabase, step: Step): Promise<ImportProgress> {
  // Before the transaction, so that the caller's other requests do not wait for its end.
  const asked = await ask(db, step, step.imported);
  if (step.refusesDuplicates && !step.dryRun) {
    const found = await step.duplicates.beforeLock();
    return insertInTurn(db, async (tx) => storeStep(tx, step, { asked, duplicates: await found(tx) }));
  }
  const duplicates = await step.duplicates.now();
  return inTransaction(db, (tx) => storeStep(tx, step, { asked, duplicates }), { isConflict: isIdentifierRace });
}

type Verdicts = Map<string, Verdict["kind"]>;

type Known = { asked: Verdicts; duplicates: LikeOthers[] };

async function storeStep(tx: Queries, step: Step, { asked, duplicates }: Known): Promise<ImportProgress> {
  const { before, imported, patients, dryRun } = step;
  const refused = new Map(step.refusesDuplicates ? duplicates.map((each) => [each.id, each]) : []);
  const isRefused = ({ id }: Imported) => asked.get(id) === "refused" || refused.has(id);
  const allowed = imported.filter((line) => !isRefused(line));
  const leftOut = dryRun
    ? await takenKeys(tx, before.id, allowed)
    : await insertCollected(
        tx,
        patients,
        imported.filter(isRefused).map(({ id }) => id),
      );
  // A line before may have the e-mail, or a patient whom the caller may see, or somebody else has taken it since.
  const surprising = allowed.filter(({ id }) => leftOut.has(id) && asked.get(id) === "free");
  const verdicts = new Map([...asked, ...(await ask(tx, step, surprising))]);
  const failed = imported.flatMap((imported) => {
    const { id, line } = imported;
    if (verdicts.get(id) === "refused") return [{ line, errors: [unchecked(imported.claims)] }];
    const duplicate = refused.get(id);
    if (duplicate) return [{ line, errors: [refusedDuplicate(duplicate)] }];
    const conflict = leftOut.get(id);
    return conflict ? [{ line, errors: refusal(imported, conflict) }] : [];
  });
  const isFailed = new Set(failed.map(({ line }) => line));
  const count = (outcome: Imported["outcome"]) => imported.filter((one) => one.outcome === outcome && !isFailed.has(one.line)).length;
  const failures = [...step.failures, ...failed].sort((a, b) => a.line - b.line);
  const reported = failures.slice(0, Math.max(0, maxReported - before.failed));
  const values = [
    before.id,
    before.lines,
    step.lines,
    count("created"),
    failures.length,
    step.prefixHash,
    JSON.stringify(reported.map(({ line, errors }) => ({ line, errors: errors.map(named(step)) }))),
    step.finished,
    count("updated"),
    count("unchanged"),
    step.transferId,
  ];
  const [advanced] = await tx.query<ProgressRow>(advanceStatement, values);
  const warned = duplicates.filter(({ line }) => !isFailed.has(line));
  if (advanced) await noteDuplicates(tx, before.id, warned);
  step.signal.throwIfAborted();
  if (advanced) return toProgress(advanced);
  const [state] = await tx.query<{ isCancelled: boolean }>(cancelledStatement, [before.id]);
  if (state?.isCancelled) throw new AppError("failed_precondition", "The import was cancelled.", { reason: cancelledReason });
  throw new AppError("failed_precondition", "Idempotency-Key: an import under this key is running. Wait for it, or use another key.");
}

/** What the caller may be told about each line: its verdict by its id. */
async function ask(db: Queries, { viewer, requestId }: Step, lines: Imported[]): Promise<Verdicts> {
  const questions = lines.map(({ claims, patientId }) => ({ viewer, requestId, claims, patientId }));
  const verdicts = await askAboutConflicts(db, questions);
  return new Map(lines.map(({ id }, index) => [id, verdicts[index]?.kind ?? "free"]));
}

function refusal({ getsNumber }: Imported, conflict: Conflict): FieldError[] {
  const isOurs = getsNumber && conflict !== "email" && conflict.system === recordNumberSystem;
  const message = "got a record number that another line brought at the same moment; import this line again";
  return isOurs ? [{ path: "", message }] : (taken(conflict).options.errors ?? []);
}

const errorsStatement = {
  name: "imports_errors",
  text: "select line, errors from import_errors where import_id = $1 and line > $2 order by line limit 100",
};

/** What was wrong, line by line, a hundred at a time, until the report is full. */
export async function* readImportErrors(db: PatientDatabase, importId: string): AsyncGenerator<{ line: number; errors: LineError[] }> {
  let [last, reported] = [0n, 0];
  while (reported < maxReported) {
    const rows = await db.query<{ line: bigint; errors: LineError[] }>(errorsStatement, [importId, last]);
    for (const { line, errors } of rows) {
      yield { line: Number(line), errors };
      reported += errors.length;
      if (reported >= maxReported) return;
    }
    const end = rows.at(-1);
    if (!end) return;
    last = end.line;
  }
}
