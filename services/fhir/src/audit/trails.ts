/**
 * The trails of all services as one, the newest entries first. Each page reads a page of every trail and takes the
 * newest of them, so each trail stays in its own order, and no entry is missed or shown twice. Clocks of services may
 * differ by milliseconds.
 */
import { invalidFields } from "@pm/kit/errors";
import type { Ask, Call } from "../protocol/calls.ts";
import { type Entry, partsOf, type Source } from "./mapping.ts";

export type Filter = Partial<Record<"patient" | "actor" | "action" | "from" | "to", string>>;
export type Found = { source: Source; entry: Entry };

/** Where each trail goes on: its entries below an id. A trail that is not named has no more. */
type Position = Map<Source, string | undefined>;

const toCursor = (position: Position): string => [...position].map(([source, before]) => `${source}-${before}`).join(".");

function fromCursor(cursor: string): Position {
  const parts = cursor.split(".").map((part) => {
    const place = partsOf(part);
    if (!place) throw invalidFields([{ path: "_cursor", message: "is not a cursor of this search; search again" }]);
    return [place.source, place.entryId] as const;
  });
  return new Map(parts);
}

export function createTrails(asks: Record<Source, Ask>) {
  async function read(call: Call, source: Source, filter: Filter & { id?: string; limit?: string; cursor?: string }): Promise<Entry[]> {
    const path = `/audit/${source}`;
    const answer = await asks[source](call, path, path, { query: new URLSearchParams(filter) });
    return (answer as { items: Entry[] }).items;
  }

  return {
    async get(call: Call, source: Source, entryId: string): Promise<Entry | undefined> {
      return (await read(call, source, { id: entryId }))[0];
    },

    async page(call: Call, filter: Filter, { among, count, cursor }: { among: Source[]; count: number; cursor: string | undefined }) {
      const position: Position = cursor === undefined ? new Map(among.map((source) => [source, undefined])) : fromCursor(cursor);
      const pages = await Promise.all(
        [...position].map(async ([source, before]) => {
          const entries = await read(call, source, { ...filter, limit: String(count), ...(before !== undefined && { cursor: before }) });
          return { source, entries, before };
        }),
      );
      const found: Found[] = [];
      const taken = new Map<Source, number>();
      while (found.length < count) {
        const heads = pages.flatMap(({ source, entries }) => {
          const entry = entries[taken.get(source) ?? 0];
          return entry ? [{ source, entry }] : [];
        });
        const newest = heads.reduce<Found | undefined>((best, head) => (!best || head.entry.at > best.entry.at ? head : best), undefined);
        if (!newest) break;
        found.push(newest);
        taken.set(newest.source, (taken.get(newest.source) ?? 0) + 1);
      }
      const rest: Position = new Map(
        pages.flatMap(({ source, entries }) => {
          const used = taken.get(source) ?? 0;
          const isEnd = used === entries.length && entries.length < count;
          // Nothing of it was shown: it begins with what is its newest entry now.
          const next = entries[used - 1]?.id ?? String(BigInt(entries[0]?.id ?? "0") + 1n);
          return isEnd ? [] : [[source, next] as const];
        }),
      );
      return { found, next: rest.size > 0 ? toCursor(rest) : undefined };
    },
  };
}
