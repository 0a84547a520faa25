/** What patient-service asks analytics about an erasure, of which an event has told it. */
import { fetchTraced } from "@pm/kit/telemetry/calls";
import { z } from "zod";

export type ErasureInAnalytics = {
  /** When analytics has erased a patient, and what; undefined until it has applied the event (null: any). */
  erased(patientId: string, eventId: string | null): Promise<{ at: Date; removed: Record<string, number> } | undefined>;
};

const timeoutMs = 5_000;
const answerSchema = z.object({ erasedAt: z.iso.datetime(), removed: z.record(z.string(), z.int()) });

type Options = { analyticsUrl: string; serviceToken: () => Promise<string> };

export function createErasureInAnalytics({ analyticsUrl, serviceToken }: Options): ErasureInAnalytics {
  return {
    async erased(patientId, eventId) {
      const query = eventId === null ? "" : `?eventId=${eventId}`;
      const response = await fetchTraced("/erasures/{patientId}", `${analyticsUrl}/erasures/${patientId}${query}`, {
        headers: { authorization: `Bearer ${await serviceToken()}` },
        signal: AbortSignal.timeout(timeoutMs),
      });
      if (!response.ok) await response.body?.cancel();
      if (response.status === 404) return undefined;
      if (!response.ok) throw new Error(`analytics answered ${response.status}`);
      const { erasedAt, removed } = answerSchema.parse(await response.json());
      return { at: new Date(erasedAt), removed };
    },
  };
}
