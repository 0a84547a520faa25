/**
 * Exports as of one moment: a job says which versions it has, and its streams read them from the versions that are kept
 * anyway. Nothing is copied, and writers do not wait.
 */
import { randomUUIDv7 } from "node:crypto";
import { AppError } from "@pm/kit/errors";
import { isUuid } from "@pm/kit/uuid";
import { type Call, viewerOf } from "../caller.ts";
import type { PatientDatabase } from "../database.ts";
import { createAccess } from "../patients/access-store.ts";
import { listsOf } from "../patients/views.ts";
import {
  cancelExport,
  createExport,
  type DeletedRow,
  type Export,
  type ExportedRow,
  maxOpen,
  noteProgress,
  readDeletionsPage,
  readExport,
  readPatientsPage,
  readScope,
} from "./store.ts";

const pageSize = 1_000;

export type Exports = ReturnType<typeof createExports>;

export function createExports({ db }: { db: PatientDatabase }) {
  const accessOf = createAccess(db);

  /** Pages as text, each a query of its own. An export that is deleted meanwhile ends. */
  async function* lines<Row extends { id: string }>(
    call: Call,
    id: string,
    { read, toLine, counts }: { read: ReadPage<Row>; toLine: (row: Row) => object; counts: boolean },
  ): AsyncGenerator<string> {
    const scope = isUuid(id) ? await readScope(db, call.actorId, id) : undefined;
    if (!scope || !isOfOwnTeam(call, scope.team)) throw unknown();
    if (!scope.isHere) throw moved();
    const viewer = viewerOf(call.caller);
    let after: string | undefined;
    let patients = 0;
    do {
      // Who may see whom may change while a slow client reads.
      const access = (await accessOf(viewer)).read;
      const rows = await read(db, { scope, viewer, access, after, limit: pageSize, call });
      const page = rows.slice(0, pageSize);
      after = rows.length > pageSize ? page.at(-1)?.id : undefined;
      if (counts) patients += page.length;
      if (!(await noteProgress(db, { caller: call.actorId, id, patients, isFinished: counts && after === undefined }))) throw unknown();
      yield page.map((row) => `${JSON.stringify(toLine(row))}\n`).join("");
    } while (after !== undefined);
  }

  return {
    /** @throws AppError not_found for a team of others, resource_exhausted if two are not read to the end */
    async create(call: Call, asked: { team: string | undefined; since: string | undefined }): Promise<Export> {
      if (!isOfOwnTeam(call, asked.team ?? null)) throw new AppError("not_found", "You are in no team with this id.");
      const created = await createExport(db, call, { id: randomUUIDv7(), ...asked });
      if (Array.isArray(created)) throw tooMany(created);
      return created;
    },

    async read({ actorId }: Call, id: string): Promise<Export> {
      const found = isUuid(id) ? await readExport(db, actorId, id) : undefined;
      if (!found) throw unknown();
      return found;
    },

    async cancel(call: Call, id: string): Promise<void> {
      if (!isUuid(id) || !(await cancelExport(db, call, id))) throw unknown();
    },

    patients: (call: Call, id: string) => lines(call, id, { read: readPatientsPage, toLine: toPatientLine, counts: true }),

    deletions: (call: Call, id: string) => lines(call, id, { read: readDeletionsPage, toLine: toDeletionLine, counts: false }),
  };
}

/** What is shared with a team is told to its members, and to callers who see all patients. */
const isOfOwnTeam = ({ caller }: Call, team: string | null): boolean =>
  team === null || caller.scopes.has("patient:all") || caller.teams.includes(team);

type ReadPage<Row> = (db: PatientDatabase, page: Parameters<typeof readPatientsPage>[1]) => Promise<Row[]>;

function toPatientLine({ id, version, created_at, updated_at, record, identifiers, merged_into, replaces }: ExportedRow) {
  const whole = { ...record, ...(identifiers && { identifiers }) };
  return {
    id,
    ...whole,
    ...listsOf(whole),
    version: Number(version),
    createdAt: created_at.toISOString(),
    updatedAt: updated_at.toISOString(),
    ...(merged_into && { mergedInto: merged_into }),
    ...(replaces.length > 0 && { replaces }),
  };
}

const toDeletionLine = ({ id, version, deleted_at }: DeletedRow) => ({
  id,
  version: Number(version),
  deletedAt: deleted_at.toISOString(),
});

const unknown = () => new AppError("not_found", "You have no export with this id. Exports are kept for 24 hours.");

/** Numbers of transactions mean something else there. */
const moved = () =>
  new AppError("failed_precondition", "The database has moved to another server since. Create a new export.", { reason: "EXPORT_LOST" });

function tooMany(open: Export[]): AppError {
  const names = open.map(({ id, cutoff }) => `${id} of ${cutoff.toISOString()}`).join(" and ");
  const message = `You have ${maxOpen} exports that are not finished: ${names}. Read one to its end, or delete it.`;
  return new AppError("resource_exhausted", message, { reason: "TOO_MANY_EXPORTS", retryAfterSeconds: 60 });
}
