/**
 * Work that goes on after the response. The time of a response must not reveal whether an e-mail address has an
 * account. The work starts when the response has surely been sent: work that started beside it made the response 0.2 ms
 * slower, which an attacker can measure.
 */
import { randomInt } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import type { Logger } from "@pm/kit/log";

export type AfterResponse = {
  /** Starts the work in 50 to 150 ms. An error is logged. */
  runAfterResponse(work: () => Promise<void>): void;
  /** Runs the work before the response. An error is logged and does not change the response. */
  runBeforeResponse(work: () => Promise<void>): Promise<void>;
  /** Waits for the work under way. */
  close(): Promise<void>;
};

export function createAfterResponse(log: Logger): AfterResponse {
  const underWay = new Set<Promise<void>>();
  const onError = (error: unknown) => log.error({ err: error }, "work beside a response failed");
  return {
    runAfterResponse(work) {
      const running = delay(randomInt(50, 150))
        .then(work)
        .catch(onError)
        .finally(() => underWay.delete(running));
      underWay.add(running);
    },
    runBeforeResponse: (work) => work().catch(onError),
    close: async () => void (await Promise.all(underWay)),
  };
}
