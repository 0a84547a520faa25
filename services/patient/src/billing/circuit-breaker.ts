/** A circuit breaker: after three failures in a row calls are not made for a while, then one call tries again. */
import type { Logger } from "@pm/kit/log";
import { Gauge, metrics } from "@pm/kit/metrics";
import { CircuitState, ConsecutiveBreaker, circuitBreaker, ExponentialBackoff, handleWhen } from "cockatiel";

export type CircuitBreaker = {
  /** Whether calls are made without restriction. */
  isClosed(): boolean;
  /**
   * Makes a call. If the circuit is open, it does so only after a pause, one call at a time.
   * @throws BrokenCircuitError if the call is not made
   */
  call<T>(work: () => Promise<T>): Promise<T>;
};

const failuresToOpen = 3;
const pauseMs = { initialDelay: 500, maxDelay: 5_000 };

const open = new Gauge({
  name: "circuit_breaker_open",
  help: "1 while calls to a service are not tried",
  labelNames: ["target"],
  registers: [metrics],
});

/** @param options.isFailure whether an error means that the target does not work; every other error is an answer */
export function createCircuitBreaker(options: { log: Logger; target: string; isFailure: (error: unknown) => boolean }): CircuitBreaker {
  const { log, target, isFailure } = options;
  const policy = circuitBreaker(handleWhen(isFailure), {
    breaker: new ConsecutiveBreaker(failuresToOpen),
    halfOpenAfter: new ExponentialBackoff(pauseMs),
  });
  open.set({ target }, 0);
  let wasOpen = false;
  policy.onBreak((reason) => {
    // Every failed try breaks the circuit again; the first one is news.
    if (!wasOpen) log.warn({ err: "error" in reason ? reason.error : undefined, target }, "does not answer; not asking it for a while");
    wasOpen = true;
    open.set({ target }, 1);
  });
  policy.onReset(() => {
    wasOpen = false;
    log.info({ target }, "answers again");
    open.set({ target }, 0);
  });
  return {
    isClosed: () => policy.state === CircuitState.Closed,
    call: (work) => policy.execute(work),
  };
}
