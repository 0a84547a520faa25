/**
 * Tells billing whose accounts belong together. A merge writes what is to be linked in its own transaction; this worker
 * repeats it to billing until billing knows. Each change of a link has a higher revision, by which billing ignores a
 * message that arrives late. So only the latest state is sent, and a link and a later unlink cannot swap.
 */
import { setTimeout as delay } from "node:timers/promises";
import { ConnectError, createClient } from "@connectrpc/connect";
import type { Lifecycle } from "@pm/kit/lifecycle";
import type { Logger } from "@pm/kit/log";
import { transportTo } from "@pm/kit/rpc/client";
import { traceparentFrom } from "@pm/kit/telemetry/trace-context";
import { inTrace } from "@pm/kit/telemetry/tracing";
import { BillingInternalService } from "@pm/proto/billing/v1/internal";
import { ErrorInfoSchema } from "@pm/proto/google/rpc/error_details";
import type { PatientDatabase } from "../database.ts";
import { type Link, leaseLinks, noteSent, postponeLink } from "./links-store.ts";

const pauseMs = 1_000;
const batch = 100;
const deadlineMs = 5_000;
const leaseSeconds = 60;

/** Tells billing one link. */
export type SendLink = (link: Link) => Promise<void>;

export function createSendLink(options: { billingUrl: string; serviceToken: () => Promise<string> }): SendLink {
  const client = createClient(BillingInternalService, transportTo(options.billingUrl));
  return async ({ patientId, survivorId, revision }) => {
    const headers = { authorization: `Bearer ${await options.serviceToken()}`, traceparent: traceparentFrom(undefined) };
    const how = { headers, timeoutMs: deadlineMs };
    if (survivorId === null) await client.unlinkAccounts({ patientId, revision }, how);
    else await client.linkAccounts({ patientId, survivorPatientId: survivorId, revision }, how);
  };
}

/** Billing writes nothing more about somebody who was erased, so there is nothing left to tell it. */
function unlessErased(error: unknown): void {
  const details = ConnectError.from(error).findDetails(ErrorInfoSchema);
  if (!details.some(({ reason }) => reason === "ACCOUNT_ERASED")) throw error;
}

/** Sends what billing does not know yet, for as long as the service runs. */
export function startLinking(options: { db: PatientDatabase; send: SendLink; log: Logger; lifecycle: Lifecycle }): void {
  const { db, send, log, lifecycle } = options;
  const stop = new AbortController();

  /** In the order of the changes. One that fails does not hold up the others. */
  async function sendDue(): Promise<number> {
    const links = (await leaseLinks(db, batch, leaseSeconds)).sort((a, b) => Number(a.revision - b.revision));
    for (const link of links) {
      try {
        await inTrace("job account_links", {}, () => send(link).catch(unlessErased));
        await noteSent(db, link);
      } catch (error) {
        log.warn({ err: error, patientId: link.patientId }, "billing did not link an account; trying again");
        await postponeLink(db, link);
      }
    }
    return links.length;
  }

  const work = async () => {
    while (!stop.signal.aborted) {
      const found = await sendDue().catch((error: unknown) => {
        log.warn({ err: error }, "accounts to link could not be looked for; trying again");
        return 0;
      });
      if (found < batch) await delay(pauseMs, undefined, { signal: stop.signal }).catch(() => undefined);
    }
  };
  const working = work();
  lifecycle.onClose("linking of accounts", () => {
    stop.abort();
    return working;
  });
}
