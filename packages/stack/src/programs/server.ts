import { setTimeout as sleep } from "node:timers/promises";
import { type Child, guard, isClosing } from "./child.ts";
import { isAlive, withDescendants } from "./processes.ts";

/** What Postgres, Kafka and Envoy have in common, however they are run. */
export type Server = {
  /** Launches it; it need not serve yet when this returns. */
  launch(): Promise<void>;
  stop(): Promise<void>;
  /** SIGKILL, and waits until it is gone. */
  kill(): Promise<void>;
  pause(): Promise<void>;
  resume(): Promise<void>;
  pids(): number[];
  running(): boolean;
  /** The last lines that it wrote. */
  tail(): Promise<string[]>;
};

/** A program on this machine. */
export function nativeServer(start: () => Promise<Child>): Server {
  let child: Child | undefined;
  const pids = () => (child?.running() ? withDescendants(child.pid) : []);
  const signalAll = (signal: NodeJS.Signals) => {
    for (const pid of pids()) {
      try {
        process.kill(pid, signal);
      } catch {
        // It ended in the meantime.
      }
    }
  };
  return {
    async launch() {
      child = await start();
    },
    async stop() {
      signalAll("SIGCONT");
      await child?.stop();
    },
    async kill() {
      // Its helpers end by themselves when they notice; a new server must not start before that.
      const all = pids();
      signalAll("SIGCONT");
      child?.signal("SIGKILL");
      await child?.exited;
      await until(
        () => !all.some(isAlive),
        10_000,
        () => "processes of a killed server do not end",
      );
    },
    async pause() {
      for (const pid of pids()) guard.watch(pid, "SIGCONT");
      signalAll("SIGSTOP");
    },
    async resume() {
      signalAll("SIGCONT");
      for (const pid of pids()) if (pid !== child?.pid) guard.forget(pid);
    },
    pids,
    running: () => child?.running() ?? false,
    tail: async () => child?.tail() ?? [],
  };
}

/** A server that somebody else runs, named by the variable that points to it: what it cannot do here says so. */
export function remoteServer(variable: string): Server {
  const refuse = async () => {
    throw new Error(`the server that ${variable} points to is not ours to stop or to freeze; unset ${variable} for that`);
  };
  return {
    launch: async () => undefined,
    stop: async () => undefined,
    kill: refuse,
    pause: refuse,
    resume: refuse,
    pids: () => [],
    running: () => true,
    tail: async () => [],
  };
}

/** Polls until `check` holds; throws with what `why` says after `timeoutMs`. */
export async function until(check: () => boolean | Promise<boolean>, timeoutMs: number, why: () => string): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await check())) {
    if (performance.now() > deadline) throw new Error(`${why()} (waited ${timeoutMs / 1000} s)`);
    await sleep(25);
  }
}

/** Waits until a server that was launched answers; where it ended instead, throws with the last lines that it wrote. */
export async function untilReady(
  name: string,
  server: Pick<Server, "running" | "tail">,
  answers: () => Promise<void>,
  timeoutMs = 60_000,
  signal?: AbortSignal,
): Promise<void> {
  const failure = async (what: string) => {
    const lines = await server.tail();
    return new Error([`${name} ${what}${lines.length > 0 ? "; its last lines:" : ""}`, ...lines].join("\n"));
  };
  const deadline = performance.now() + timeoutMs;
  let problem = "nothing was heard";
  let asking = false;
  let ready = false;
  while (!ready) {
    // A question may hang for seconds; that the server has ended is noticed in between.
    if (!server.running()) throw await failure("ended while starting");
    if (signal?.aborted || isClosing()) throw new Error(`${name} was given up while it was starting`);
    if (performance.now() > deadline) throw await failure(`did not answer within ${timeoutMs / 1000} s (${problem})`);
    if (!asking) {
      asking = true;
      answers()
        .then(
          () => {
            ready = true;
          },
          (error: unknown) => {
            problem = String(error);
          },
        )
        .finally(() => {
          asking = false;
        });
    }
    await sleep(20);
  }
}
