/** A circuit breaker: after some failures in a row nobody tries for a while, then one does. */
import type { Logger } from "@pm/kit/log";
import { Gauge, metrics } from "@pm/kit/metrics";

export type Breaker = {
  isClosed(): boolean;
  /** Closed, or open for long enough that one may try: whoever gets true then says `succeeded`, `failed` or `notTried`. */
  mayTry(): boolean;
  succeeded(): void;
  failed(error: unknown): void;
  notTried(): void;
};

const failuresToOpen = 3;
const firstPauseMs = 500;
const longestPauseMs = 5_000;

const open = new Gauge({
  name: "circuit_breaker_open",
  help: "1 while calls to a service are not tried",
  labelNames: ["target"],
  registers: [metrics],
});

export function createBreaker(options: { log: Logger; name: string; now?: () => number }): Breaker {
  const { log, name, now = () => performance.now() } = options;
  let failures = 0;
  let openUntil = 0;
  let trying = false;
  const isClosed = () => failures < failuresToOpen;
  open.set({ target: name }, 0);

  return {
    isClosed,
    mayTry() {
      if (isClosed()) return true;
      if (trying || now() < openUntil) return false;
      trying = true;
      return true;
    },
    succeeded() {
      if (!isClosed()) log.info({ target: name }, "answers again");
      failures = 0;
      trying = false;
      open.set({ target: name }, 0);
    },
    failed(error) {
      failures += 1;
      trying = false;
      if (isClosed()) return;
      if (failures === failuresToOpen) log.warn({ err: error, target: name }, "does not answer; not asking it for a while");
      const pause = Math.min(firstPauseMs * 2 ** (failures - failuresToOpen), longestPauseMs);
      openUntil = now() + pause * (0.75 + Math.random() / 2);
      open.set({ target: name }, 1);
    },
    notTried() {
      trying = false;
    },
  };
}
