/**
 * Imports and exports that run: how many a caller may have at a time, for how long, and how fast an import must come.
 */
import { randomUUIDv7 } from "node:crypto";
import type { Streaming } from "@pm/kit/auth/signed-out";
import { AppError } from "@pm/kit/errors";
import type { Lifecycle } from "@pm/kit/lifecycle";
import type { Logger } from "@pm/kit/log";
import type { Call } from "../caller.ts";
import type { PatientDatabase } from "../database.ts";
import { freeSlot, maxRunning, type RunningTransfer, renewLeases, type TransferKind, takeSlot } from "./transfers-store.ts";

/** The slowest that an import may come. */
const bytesPerSecond = 1024;

type Limits = {
  /** A slot of a killed process is free after this time. */
  leaseMs: number;
  deadlineMs: number;
  /** How long a sender may be silent, or slower than `bytesPerSecond`. */
  patienceMs: number;
};

const usualLimits: Limits = { leaseMs: 30_000, deadlineMs: 60 * 60_000, patienceMs: 30_000 };

type Options = { db: PatientDatabase; log: Logger; lifecycle: Lifecycle; limits?: Limits };
type Begin = { id?: string; kind: TransferKind; name?: string | undefined; streaming: Streaming };

export type Transfers = ReturnType<typeof createTransfers>;

export function createTransfers({ db, log, lifecycle, limits = usualLimits }: Options) {
  const { leaseMs, deadlineMs, patienceMs } = limits;
  const held = new Map<string, Streaming>();

  async function renew(): Promise<void> {
    if (held.size === 0) return;
    const ids = [...held.keys()];
    const kept = await renewLeases(db, ids, leaseMs);
    for (const id of ids) if (!kept.has(id)) held.get(id)?.end(leaseLost());
  }
  const timer = setInterval(() => {
    renew().catch((error: unknown) => log.warn({ err: error }, "slots of running imports and exports were not renewed; trying again"));
  }, leaseMs / 3);
  lifecycle.onClose("transfers", () => clearInterval(timer));

  return {
    /**
     * Takes one of the caller's slots and starts the clock. Gives a function that frees the slot; it is called by
     * itself when the answer is complete or the client has gone.
     * @throws AppError resource_exhausted, with what runs, if no slot is free
     */
    async begin(call: Call, { id = randomUUIDv7(), kind, name, streaming }: Begin): Promise<() => Promise<void>> {
      const running = await takeSlot(db, { id, caller: call.actorId, kind, name: name ?? null }, leaseMs);
      if (running) throw tooMany(kind, running);
      held.set(id, streaming);
      const deadline = setTimeout(() => {
        // If something hangs, the lease ends without a renewal.
        held.delete(id);
        streaming.end(tookTooLong(kind));
      }, deadlineMs);
      let freed: Promise<void> | undefined;
      const free = () => {
        held.delete(id);
        clearTimeout(deadline);
        freed ??= freeSlot(db, id).catch((error: unknown) => log.warn({ err: error }, "a slot stays taken until its lease ends"));
        return freed;
      };
      streaming.onClose(free);
      return free;
    },

    /**
     * A file that ends its request when it comes too slowly. Each byte gives time, and waiting for the sender takes it.
     * The time in which nobody reads does not count.
     */
    paced(file: ReadableStream<Uint8Array>, streaming: Streaming): ReadableStream<Uint8Array> {
      const reader = file.getReader();
      let patience = patienceMs;
      const pull = async (controller: ReadableStreamDefaultController<Uint8Array>) => {
        const asked = performance.now();
        const timer = setTimeout(() => streaming.end(tooSlow()), patience);
        try {
          const { done, value } = await reader.read();
          if (done) return controller.close();
          const gained = (value.length / bytesPerSecond) * 1_000;
          patience = Math.min(patienceMs, patience - (performance.now() - asked) + gained);
          controller.enqueue(value);
        } finally {
          clearTimeout(timer);
        }
      };
      return new ReadableStream({ pull, cancel: (reason) => reader.cancel(reason) }, { highWaterMark: 0 });
    },
  };
}

function tooMany(kind: TransferKind, running: RunningTransfer[]): AppError {
  const one = ({ name, startedAt }: RunningTransfer) => `${name === null ? "one" : `"${name}"`} since ${startedAt.toISOString()}`;
  const message = `You have ${maxRunning} ${kind}s running: ${running.map(one).join(" and ")}. Wait until one of them has ended.`;
  return new AppError("resource_exhausted", message, { reason: "TOO_MANY_TRANSFERS", retryAfterSeconds: 30 });
}

const tookTooLong = (kind: TransferKind) => new AppError("request_timeout", `An ${kind} may take 60 minutes.`);

const tooSlow = () =>
  new AppError("request_timeout", `The file came too slowly: an import must send at least ${bytesPerSecond / 1024} KiB per second.`);

/** This process could not renew the lease in time, and another request has taken the slot. */
const leaseLost = () => new AppError("unavailable", "The database could not be reached for too long.", { retryAfterSeconds: 1 });
