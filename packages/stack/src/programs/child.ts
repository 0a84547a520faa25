import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import type { Socket } from "node:net";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";

/** Where a program writes: into a file, without passing through this process, or line by line to a function. */
export type Output = { logFile?: string | undefined; onLog?: ((line: string) => void) | undefined };

export type Exit = { code: number | null; signal: NodeJS.Signals | null };

/** A program that this process started. It ends with this process, however that ends. */
export type Child = {
  name: string;
  pid: number;
  exited: Promise<Exit>;
  running(): boolean;
  /** The last lines of its output. */
  tail(): string[];
  signal(signal: NodeJS.Signals): void;
  /** Sends the stop signal, and SIGKILL after `graceMs` (10,000 by default). Returns when the program has ended. */
  stop(graceMs?: number): Promise<void>;
};

type ChildOptions = Output & {
  name: string;
  command: string;
  args: string[];
  env?: NodeJS.ProcessEnv;
  cwd?: string;
  uid?: number;
  gid?: number;
  stopSignal?: NodeJS.Signals;
};

const TAIL_LINES = 20;
/** Long lines are cut: one line of JSON with a stack trace would hide all others. */
const TAIL_LINE_LETTERS = 400;
const TAIL_BYTES = 32 * 1024;
const GRACE_MS = 10_000;
/** How long to wait for the last lines of a program that has ended. */
const LAST_WORDS_MS = 500;

/** All running programs, oldest first. */
const children = new Set<{ stop(graceMs?: number): Promise<void> }>();
let closing = false;

/**
 * Starts a program in its own session. Ctrl-C on the terminal then reaches only this process, which stops its children
 * in the right order. Throws if the program does not exist or may not be run.
 */
export async function startChild(options: ChildOptions): Promise<Child> {
  const { name, command, args, stopSignal = "SIGTERM", logFile, onLog } = options;
  if (closing) throw new Error(`${name} is not started, because everything is being stopped`);
  const lines: string[] = [];
  const log = logFile === undefined ? undefined : openSync(logFile, "a", 0o600);
  const child = spawn(command, args, {
    detached: true,
    stdio: ["ignore", log ?? "pipe", log ?? "pipe"],
    ...(options.env && { env: options.env }),
    ...(options.cwd !== undefined && { cwd: options.cwd }),
    ...(options.uid !== undefined && { uid: options.uid }),
    ...(options.gid !== undefined && { gid: options.gid }),
  });
  if (log !== undefined) closeSync(log);
  await new Promise<void>((resolve, reject) => {
    child.once("spawn", resolve);
    child.once("error", (cause) => reject(new Error(`cannot run ${command}: ${cause.message}`, { cause })));
  });
  const pid = pidOf(child);
  guard.watch(pid, stopSignal);
  let ended: Exit | undefined;
  const exited = new Promise<Exit>((resolve) => {
    child.once("exit", (code, signal) => {
      guard.forget(pid);
      const end = () => {
        ended = { code, signal };
        children.delete(handle);
        resolve(ended);
      };
      // The pipes close after the last line, unless a program that it started keeps them open.
      const patience = setTimeout(end, LAST_WORDS_MS);
      child.once("close", () => {
        clearTimeout(patience);
        end();
      });
    });
  });
  const keep = (stream: Readable | null): void => {
    if (!stream) return;
    createInterface({ input: stream }).on("line", (line) => {
      lines.push(line);
      if (lines.length > TAIL_LINES) lines.shift();
      onLog?.(line);
    });
  };
  keep(child.stdout);
  keep(child.stderr);
  const handle: Child = {
    name,
    pid,
    exited,
    running: () => ended === undefined,
    tail: () => (logFile === undefined ? lines : lastLines(logFile)).map((line) => line.slice(0, TAIL_LINE_LETTERS)),
    signal: (signal) => void (ended ?? child.kill(signal)),
    async stop(graceMs = GRACE_MS) {
      if (ended) return;
      // A frozen process reacts to no other signal than SIGCONT and SIGKILL.
      child.kill("SIGCONT");
      child.kill(stopSignal);
      const force = setTimeout(() => child.kill("SIGKILL"), graceMs);
      await exited;
      clearTimeout(force);
    },
  };
  children.add(handle);
  return handle;
}

/** Stops all children, youngest first, and refuses to start new ones. Ends a start-up that was given up. */
export async function stopChildren(graceMs?: number): Promise<void> {
  closing = true;
  if (graceMs === 0) await Promise.all([...children].map((child) => child.stop(0)));
  for (const child of [...children].reverse()) await child.stop(graceMs);
}

/**
 * Runs a program to its end and returns its standard output. Throws with its last lines if it fails. `signal` ends it.
 */
export async function run(
  command: string,
  args: string[],
  options: { env?: NodeJS.ProcessEnv; cwd?: string; uid?: number; gid?: number; signal?: AbortSignal } = {},
): Promise<string> {
  if (closing) throw new Error(`${command} is not started, because everything is being stopped`);
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], ...options });
  const handle = { stop: async () => void child.kill("SIGTERM") };
  children.add(handle);
  let output = "";
  let errors = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    output += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    errors += text;
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once("error", (cause) => reject(new Error(`cannot run ${command}: ${cause.message}`, { cause })));
    child.once("close", resolve);
  }).finally(() => children.delete(handle));
  if (code === 0) return output;
  const lastLines = `${output}\n${errors}`.trim().split("\n").slice(-TAIL_LINES).join("\n");
  throw new Error(`${command} ${args.join(" ")} failed (exit code ${code}):\n${lastLines}`);
}

/** Whether the PATH has a program of that name. */
export async function hasProgram(command: string): Promise<boolean> {
  return run("sh", ["-c", 'command -v "$1"', "sh", command]).then(
    () => true,
    () => false,
  );
}

/** Whether `stopChildren` was called. Start-ups that are still under way give up then. */
export const isClosing = (): boolean => closing;

function lastLines(file: string): string[] {
  const descriptor = openSync(file, "r");
  try {
    const { size } = fstatSync(descriptor);
    const bytes = Buffer.alloc(Math.min(size, TAIL_BYTES));
    readSync(descriptor, bytes, 0, bytes.length, size - bytes.length);
    return bytes.toString("utf8").trimEnd().split("\n").slice(-TAIL_LINES);
  } finally {
    closeSync(descriptor);
  }
}

function pidOf(child: ChildProcess): number {
  if (child.pid === undefined) throw new Error("a process that was started has no pid");
  return child.pid;
}

/**
 * A shell that outlives this process by a few seconds, so that not even `kill -9` of `npm start` or of a test run
 * leaves a database running. It reads the pids of all children and their stop signals from a pipe. The kernel closes
 * the pipe when this process ends; the shell then stops the children that still run. It costs one megabyte.
 */
const GUARD = `
trap '' INT TERM HUP
watched=
while read -r verb pid signal; do
  rest=
  for entry in $watched; do [ "\${entry%%:*}" = "$pid" ] || rest="$rest $entry"; done
  case $verb in watch) watched="$pid:$signal $rest" ;; *) watched=$rest ;; esac
done
for entry in $watched; do
  kill -CONT "\${entry%%:*}"
  kill -"\${entry#*:}" "\${entry%%:*}"
done
for attempt in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
  alive=
  for entry in $watched; do if kill -0 "\${entry%%:*}"; then alive=yes; fi; done
  [ -n "$alive" ] || exit 0
  sleep 0.5
done
for entry in $watched; do kill -KILL "\${entry%%:*}"; done
`;

function createGuard() {
  let pipe: Socket | undefined;
  const send = (line: string): void => {
    if (!pipe || pipe.destroyed) {
      const shell = spawn("sh", ["-c", GUARD], { detached: true, stdio: ["pipe", "ignore", "ignore"] });
      shell.unref();
      pipe = shell.stdin as Socket;
      pipe.unref();
      pipe.on("error", () => undefined);
    }
    pipe.write(`${line}\n`);
  };
  return {
    watch: (pid: number, signal: NodeJS.Signals) => send(`watch ${pid} ${signal.replace("SIG", "")}`),
    forget: (pid: number) => send(`forget ${pid} -`),
  };
}

/** The guard of this process. Callers also register processes of others, such as frozen Postgres backends. */
export const guard = createGuard();
