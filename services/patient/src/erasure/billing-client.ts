/** What patient-service asks billing when a patient is erased. */
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { transportTo } from "@pm/kit/rpc/client";
import { traceparentFrom } from "@pm/kit/telemetry/trace-context";
import { BillingInternalService, type ErasureHolds } from "@pm/proto/billing/v1/internal";

export type ErasureInBilling = {
  /** What billing must keep; undefined if nothing. */
  holds(patientId: string): Promise<ErasureHolds | undefined>;
  /** Lets only administrators read what identifies the patient in billing. May be repeated. */
  restrict(patientId: string, erasureId: string): Promise<void>;
  /** Erases what identifies the patient in billing, or says what billing must keep. May be repeated. */
  erase(patientId: string, erasureId: string): Promise<ErasureHolds | { at: Date; removed: Record<string, number> }>;
};

const timeoutMs = 10_000;

export function createErasureInBilling(options: { billingUrl: string; serviceToken: () => Promise<string> }): ErasureInBilling {
  const client = createClient(BillingInternalService, transportTo(options.billingUrl));

  async function ask<T>(call: (how: { headers: Record<string, string>; timeoutMs: number }) => Promise<T>): Promise<T> {
    try {
      const headers = { authorization: `Bearer ${await options.serviceToken()}`, traceparent: traceparentFrom(undefined) };
      return await call({ headers, timeoutMs });
    } catch (error) {
      // Without a token of its own this service cannot ask either.
      throw ConnectError.from(error, Code.Unavailable);
    }
  }

  return {
    holds: async (patientId) => (await ask((how) => client.getErasureHolds({ patientId }, how))).holds,
    async restrict(patientId, erasureId) {
      await ask((how) => client.restrictParty({ patientId, erasureId }, how));
    },
    async erase(patientId, erasureId) {
      const { holds, eraseTime, erased } = await ask((how) => client.eraseParty({ patientId, erasureId }, how));
      if (holds) return holds;
      if (!eraseTime) throw new ConnectError("billing has neither erased nor refused", Code.Internal);
      const removed = Object.fromEntries(Object.entries(erased).map(([what, rows]) => [what, Number(rows)]));
      return { at: timestampDate(eraseTime), removed };
    },
  };
}
