import { setTimeout as sleep } from "node:timers/promises";
import { type Child, guard, isClosing } from "./child.ts";
import { isAlive, withDescendants } from "./processes.ts";

/** How to run one server: natively, in a container, or not at all because it runs elsewhere. */
export type Server = {
  /** Launches it. The server may still be starting when this returns. */
  launch(): Promise<void>;
  stop(): Promise<void>;
  /** Sends SIGKILL and waits until the server has ended. */
  kill(): Promise<void>;
  pause(): Promise<void>;
  resume(): Promise<void>;
  pids(): number[];
  running(): boolean;
  tail(): Promise<string[]>;
};

/** What Postgres, Kafka and Envoy have in common once they are ready. */
export type RunningServer = {
  /** Stops the server and waits for its end. Temporary data is removed. */
  stop(): Promise<void>;
  /** Sends SIGKILL and waits for the end. The data stays. */
  kill(): Promise<void>;
  /** Starts the server again on the same port, after `stop` or `kill`. Returns when it is ready. */
  start(): Promise<void>;
  /** Freezes every process of the server (SIGSTOP, or `docker pause`). */
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** The server's processes on this machine; empty if it runs elsewhere. */
  pids(): number[];
  /** False after the server has ended, by itself or by `stop` or `kill`. */
  running(): boolean;
  /** The last lines of its output. */
  tail(): Promise<string[]>;
};

type Readiness = {
  /** Throws as long as the server does not answer. */
  answers: () => Promise<void>;
  timeoutMs?: number;
  /** Removes what the server leaves behind. */
  afterStop?: () => void;
};

/** Starts a server and returns when it answers. If it does not, stops it and throws with its last lines. */
export async function startServer(name: string, server: Server, { answers, timeoutMs, afterStop }: Readiness): Promise<RunningServer> {
  const start = async () => {
    await server.launch();
    await untilReady(name, server, answers, timeoutMs);
  };
  const stop = async () => {
    await server.stop();
    afterStop?.();
  };
  try {
    await start();
  } catch (error) {
    await stop();
    throw error;
  }
  const { kill, pause, resume, pids, running, tail } = server;
  return { stop, kill, start, pause, resume, pids, running, tail };
}

/** A server that is a program of this machine. */
export function nativeServer(start: () => Promise<Child>): Server {
  let child: Child | undefined;
  const pids = () => (child?.running() ? withDescendants(child.pid) : []);
  const signalAll = (signal: NodeJS.Signals) => {
    for (const pid of pids()) {
      try {
        process.kill(pid, signal);
      } catch {
        // The process has ended in the meantime.
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
      // Helper processes end when they notice that their parent is gone. A new server must not start before that.
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

/** A server that runs elsewhere. `variable` is the environment variable that points to it: errors name it. */
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

/** Polls until `check` holds. After `timeoutMs` it throws with the text of `why`. */
export async function until(check: () => boolean | Promise<boolean>, timeoutMs: number, why: () => string): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await check())) {
    if (performance.now() > deadline) throw new Error(`${why()} (waited ${timeoutMs / 1000} s)`);
    await sleep(25);
  }
}

/** Waits until a launched server answers. Throws with its last lines if it ends instead or takes too long. */
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
  let problem = "it never answered";
  let asking = false;
  let ready = false;
  while (!ready) {
    // One question may hang for seconds. Keep checking meanwhile whether the server has ended.
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
