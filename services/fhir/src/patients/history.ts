/** The versions of a patient, and of all patients, as entries of a history. */
import { AppError } from "@pm/kit/errors";
import type { Past } from "../protocol/bundle.ts";
import type { Call } from "../protocol/calls.ts";
import type { Patients } from "./client.ts";
import { toFhir } from "./mapping.ts";
import type { PatientVersion } from "./patient.ts";

export type HistoryQuery = { count: number; since?: string; cursor?: string; oldestFirst: boolean };
export type History = { versions: Past[]; next?: string | undefined; lastUpdated?: string };

/** What a version has in every case. One by which a patient is gone has no content. */
type Head = Pick<PatientVersion, "id" | "version" | "action"> & { at: string };

const isGone = ({ action }: { action: string }): boolean => action === "deleted" || action === "erased";

/** @param content undefined if the version has none, or it was erased */
const toPast = ({ id, version, action, at }: Head, content: PatientVersion | undefined): Past => ({
  ...{ type: "Patient", id, version, at },
  made: !content || isGone({ action }) ? "deleted" : version === 1 ? "created" : "updated",
  ...(content && { resource: toFhir(content) }),
});

const parametersOf = ({ count, cursor }: HistoryQuery) => ({ limit: String(count), ...(cursor !== undefined && { cursor }) });

export function createHistory(patients: Patients) {
  async function contentOf(call: Call, { id, version, action }: Head): Promise<PatientVersion | undefined> {
    if (isGone({ action })) return undefined;
    return patients.version(call, id, String(version)).catch((error: unknown) => {
      if (error instanceof AppError && error.code === "gone") return undefined;
      throw error;
    });
  }

  return {
    version: (call: Call, id: string, version: string) => patients.version(call, id, version),

    /** The newest versions first. */
    async ofPatient(call: Call, id: string, query: HistoryQuery): Promise<History> {
      const { items, nextCursor } = await patients.history(call, id, new URLSearchParams(parametersOf(query)));
      const heads = items.map((item) => ({ ...item, id })).filter(({ at }) => query.since === undefined || at >= query.since);
      const versions = await Promise.all(heads.map(async (head) => toPast(head, await contentOf(call, head))));
      return { versions, ...(heads.length === items.length && { next: nextCursor }) };
    },

    /**
     * The versions of all patients whom the caller may see. The answer ends before the oldest write in flight, so that
     * a client that asks again from its `lastUpdated` misses nothing.
     */
    async ofAll(call: Call, query: HistoryQuery): Promise<History> {
      const { since, oldestFirst } = query;
      const order = oldestFirst ? "oldest" : "newest";
      const page = await patients.changes(
        call,
        new URLSearchParams({ ...parametersOf(query), order, ...(since !== undefined && { since }) }),
      );
      const versions = page.items.map((item) => {
        const isDeletion = "deletedAt" in item;
        const at = isDeletion ? item.deletedAt : item.updatedAt;
        return toPast({ ...item, at }, isDeletion ? undefined : item);
      });
      return { versions, next: page.nextCursor, lastUpdated: page.completeUntil };
    },
  };
}
