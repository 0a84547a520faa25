/**
 * Who saw or changed a patient's data, in any service. Patient-service reads its own trail, and asks the other services
 * with the caller's token, so that each of them decides and records it. Auth has no data of patients.
 */
import type { AuditTrail } from "@pm/kit/audit/trail";
import { readTrail } from "@pm/kit/auditor/store";
import type { Cursors } from "@pm/kit/cursor";
import { AppError } from "@pm/kit/errors";
import type { Page, PageRequest } from "@pm/kit/http/paging";
import { z } from "zod";
import type { Call } from "../caller.ts";
import type { PatientDatabase } from "../database.ts";
import { trailOf } from "./store.ts";

export type Disclosure = { service: string; id: string; at: string; actor: string; action: string; requestId: string };

/** The entries of a service about the patient, the newest first; `after` is the last one that is known. */
type Source = { service: string; page(after: string | undefined, limit: number): Promise<Disclosure[]> };

/** Where a page ends in each service: the last id that was shown, if there was one. */
type Positions = Record<string, string>;

export type Disclosures = {
  /** @throws AppError unavailable if a service does not answer, since a part of the answer would look like all of it */
  page(call: Call, patientId: string, page: PageRequest): Promise<Page<Disclosure>>;
  /** All of them, in pieces. */
  all(call: Call, patientId: string): Promise<AsyncGenerator<Disclosure[]>>;
};

type Options = { db: PatientDatabase; audit: AuditTrail; cursors: Cursors; others: { [service: string]: string } };

const timeoutMs = 5_000;
const pieceSize = 400;

/** @param options.others the addresses of the other services */
export function createDisclosures({ db, audit, cursors, others }: Options): Disclosures {
  async function sourcesFor(call: Call, patientId: string): Promise<Source[]> {
    const of = await trailOf(db, patientId);
    const own: Source = {
      service: "patient",
      async page(before, limit) {
        const entries = await readTrail(db, { filter: { disclosures: true }, of, before, limit });
        return entries.map(({ id, at, actor, action, request_id }) => ({
          ...{ service: "patient", id: String(id), at, actor, action, requestId: request_id },
        }));
      },
    };
    const asked = Object.entries(others).map(
      ([service, url]): Source => ({
        service,
        // Not every service knows which records were merged, so each is asked about all of them.
        async page(cursor, limit) {
          const ask = (patientId: string) => askTrail(call, `${url}/audit/${service}`, { service, patientId, cursor, limit });
          const entries = new Map((await Promise.all(of.patientIds.map(ask))).flat().map((entry) => [entry.id, entry]));
          return [...entries.values()].sort((one, other) => Number(BigInt(other.id) - BigInt(one.id))).slice(0, limit);
        },
      }),
    );
    return [own, ...asked];
  }

  async function begin(call: Call, patientId: string): Promise<void> {
    const { actorId, requestId } = call;
    await audit.record({ actorId, action: "audit.disclosures_read", subject: patientId, requestId });
  }

  return {
    async page(call, patientId, { limit, cursor }) {
      const bound = ["disclosures", patientId];
      const positions = (cursor === undefined ? {} : cursors.open(bound, cursor)[0]) as Positions;
      await begin(call, patientId);
      const { items, isLast } = await merge(await sourcesFor(call, patientId), positions, limit);
      return { items, ...(!isLast && { nextCursor: cursors.seal(bound, [positionsAfter(positions, items)]) }) };
    },

    async all(call, patientId) {
      await begin(call, patientId);
      const sources = await sourcesFor(call, patientId);
      let { items, isLast } = await merge(sources, {}, pieceSize);
      async function* pieces() {
        for (let positions: Positions = {}; ; ) {
          yield items;
          if (isLast) return;
          positions = positionsAfter(positions, items);
          ({ items, isLast } = await merge(sources, positions, pieceSize));
        }
      }
      return pieces();
    },
  };
}

/** The newest entries of all services, after those that are known. */
async function merge(sources: Source[], known: Positions, limit: number): Promise<{ items: Disclosure[]; isLast: boolean }> {
  const found = await Promise.all(sources.map(({ service, page }) => page(known[service], limit + 1)));
  const isLast = found.flat().length <= limit;
  const items: Disclosure[] = [];
  // Entries of a service stay in their order, also if its clock was set back.
  for (let left = found; items.length < limit && left.length > 0; left = left.filter((entries) => entries.length > 0)) {
    const newest = left.reduce((one, other) => ((other[0]?.at ?? "") > (one[0]?.at ?? "") ? other : one));
    items.push(...newest.splice(0, 1));
  }
  return { items, isLast };
}

function positionsAfter(known: Positions, items: Disclosure[]): Positions {
  return { ...known, ...Object.fromEntries(items.map(({ service, id }) => [service, id])) };
}

const trailSchema = z.object({
  items: z.array(z.object({ id: z.string(), at: z.string(), actor: z.string(), action: z.string(), requestId: z.string() })),
});

type Question = { service: string; patientId: string; cursor: string | undefined; limit: number };

async function askTrail({ caller, requestId }: Call, url: string, { service, patientId, cursor, limit }: Question): Promise<Disclosure[]> {
  const query = new URLSearchParams({ patient: patientId, disclosures: "true", limit: String(limit), ...(cursor && { cursor }) });
  const unavailable = (cause: unknown) =>
    new AppError("unavailable", `The trail of ${service} cannot be read right now. Try again shortly.`, { retryAfterSeconds: 1, cause });
  const response = await fetch(`${url}?${query}`, {
    headers: { authorization: `Bearer ${caller.token}`, "x-request-id": requestId },
    signal: AbortSignal.timeout(timeoutMs),
  }).catch((cause: unknown) => {
    throw unavailable(cause);
  });
  if (!response.ok) {
    await response.body?.cancel();
    throw unavailable(new Error(`${service} answered ${response.status}`));
  }
  return trailSchema.parse(await response.json()).items.map((entry) => ({ service, ...entry }));
}
