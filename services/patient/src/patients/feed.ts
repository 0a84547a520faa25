/** Every version of all patients, for clients that follow them (decision 0029). */
import type { Cursors } from "@pm/kit/cursor";
import { type Page, type PageRequest, toPage } from "@pm/kit/http/paging";
import { type Call, viewerOf } from "../caller.ts";
import type { PatientDatabase } from "../database.ts";
import type { Action, PatientRecord } from "../tables.ts";
import { createAccess } from "./access-store.ts";
import { readSince, toUntil } from "./changes.ts";
import { type Horizon, readCompleteUntil, readHorizon } from "./changes-store.ts";
import { type FeedPosition, type FeedRow, type Range, rangeOf, readFeed, timesOf } from "./feed-store.ts";

export const feedOrders = ["oldest", "newest"] as const;

export type FeedQuery = PageRequest & {
  since?: string | undefined;
  until?: string | undefined;
  order: (typeof feedOrders)[number];
};

type Entry = { id: string; version: number; action: Action; at: Date; by: string };
/** A version. `otherId` is the record that was merged into this one, or is not any more. */
export type FeedEntry = Entry &
  ({ record: PatientRecord; createdAt: Date; otherId: string | undefined; replaces: string[] } | { record: undefined });

/** `until`: where the next answer begins. Nothing before `completeUntil` is missing from this and earlier answers. */
export type Feed = Page<FeedEntry> & { until: string; completeUntil: Date };

/** What all pages of an answer share. */
type Frame = { horizon: Horizon; range: Range; completeUntil: string };

export function createFeed({ db, cursors }: { db: PatientDatabase; cursors: Cursors }) {
  const accessOf = createAccess(db);

  return async (call: Call, query: FeedQuery): Promise<Feed> => {
    const { limit, cursor, order, ...places } = query;
    const since = query.since === undefined ? undefined : readSince(query.since, "since");
    const until = query.until === undefined ? undefined : readSince(query.until, "until");
    const bound = ["changes", call.actorId, places, order];

    async function begin(): Promise<Frame> {
      const completeUntil = (await readCompleteUntil(db)).toISOString();
      const horizon = await readHorizon(db);
      return { horizon, range: await rangeOf(db, since, until, horizon), completeUntil };
    }
    const [after, known] = cursor === undefined ? [] : (cursors.open(bound, cursor) as [FeedPosition, Frame]);
    const frame = known ?? (await begin());
    const { horizon, range, completeUntil } = frame;
    const { actorId, requestId } = call;
    const where = { range, times: timesOf(since, until, horizon), after, newestFirst: order === "newest" };
    const rows = await readFeed(db, { actorId, requestId, access: await accessOf(viewerOf(call.caller)), ...where, limit });
    const positionOf = ({ xid, id, version }: FeedRow): FeedPosition => ({ xid, id, version: String(version) });
    const { items, ...next } = toPage(rows, limit, (last) => cursors.seal(bound, [positionOf(last), frame]));
    return {
      items: items.flatMap(toEntry),
      ...next,
      until: toUntil(horizon),
      completeUntil: new Date(completeUntil),
    };
  };
}

/** A version is left out if its content was erased with another record, which was merged into this one meanwhile. */
function toEntry({ id, version, action, at, by, record, createdAt, otherId, replaces }: FeedRow): FeedEntry[] {
  const entry = { id, version: Number(version), action, at, by };
  if (action === "deleted" || action === "erased") return [{ ...entry, record: undefined }];
  return Object.keys(record).length === 0 ? [] : [{ ...entry, record, createdAt, otherId: otherId ?? undefined, replaces }];
}
