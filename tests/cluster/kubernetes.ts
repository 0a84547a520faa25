/** The cluster at KUBECONFIG, through the programs that people use: kubectl and helm. */
import { type ChildProcess, execFile, spawn, spawnSync } from "node:child_process";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";

const execute = promisify(execFile);

/** Why these tests cannot run here; undefined if a cluster and the programs for it answer. */
export function missing(): string | undefined {
  if (!process.env.KUBECONFIG) return "KUBECONFIG is not set: these tests install the chart on the cluster that it points at";
  for (const [program, ...args] of [
    ["kubectl", "version"],
    ["helm", "version"],
  ] as const) {
    const { status, stderr, error } = spawnSync(program, args, { encoding: "utf8", timeout: 15_000 });
    if (status !== 0) return `${program} does not answer: ${error?.message ?? stderr.trim().split("\n")[0]}`;
  }
  return undefined;
}

/** Runs a program and returns its output. @throws Error with the output if it fails. */
export async function run(program: string, ...args: string[]): Promise<string> {
  try {
    return (await execute(program, args, { maxBuffer: 64 * 1024 * 1024 })).stdout;
  } catch (error) {
    const { stdout = "", stderr = "" } = error as { stdout?: string; stderr?: string };
    throw new Error(`${program} ${args.join(" ")}\n${stdout}${stderr}`);
  }
}

/** Asks until the answer is neither undefined nor false. @throws Error with the last answer after `seconds`. */
export async function until<T>(what: string, seconds: number, ask: () => Promise<T | undefined | false>): Promise<T> {
  const deadline = Date.now() + seconds * 1_000;
  for (let last: unknown; ; await delay(250)) {
    try {
      const answer = await ask();
      if (answer !== undefined && answer !== false) return answer;
      last = answer;
    } catch (error) {
      last = error;
    }
    if (Date.now() > deadline) throw new Error(`not within ${seconds} s: ${what}${last instanceof Error ? `\n${last.message}` : ""}`);
  }
}

/** Applies one object. */
export async function apply(namespace: string, object: object): Promise<void> {
  const applying = execute("kubectl", ["-n", namespace, "apply", "-f", "-"]);
  applying.child.stdin?.end(JSON.stringify(object));
  await applying;
}

export type Forward = { url: string; close(): void };

/** `kubectl port-forward`. It starts again on the same port when its pod goes away. */
export async function forward(namespace: string, target: string, port: number): Promise<Forward> {
  let child: ChildProcess;
  let closed = false;
  process.once("exit", () => child?.kill());
  const begin = (local: string) =>
    new Promise<string>((resolve, reject) => {
      child = spawn("kubectl", ["-n", namespace, "port-forward", "--address", "127.0.0.1", target, `${local}:${port}`]);
      let said = "";
      child.stdout?.on("data", (chunk: Buffer) => {
        const chosen = /Forwarding from 127\.0\.0\.1:(\d+)/.exec(chunk.toString())?.[1];
        if (chosen) resolve(chosen);
      });
      child.stderr?.on("data", (chunk: Buffer) => {
        said += chunk.toString();
        // When its pod is gone, kubectl only says so and goes on. End it, so that a new one chooses another pod.
        if (/lost connection|container not running|network namespace/.test(said)) child.kill();
      });
      child.on("exit", () => reject(new Error(`port-forward ${target}: ${said}`)));
    });
  const local = await until(`port-forward to ${target}`, 60, () => begin(""));
  void (async () => {
    while (!closed) {
      await new Promise((resolve) =>
        child.exitCode === null && child.signalCode === null ? child.once("exit", resolve) : resolve(undefined),
      );
      if (!closed) await until(`port-forward to ${target}`, 120, () => begin(local)).catch(() => undefined);
    }
  })();
  return {
    url: `http://localhost:${local}`,
    close() {
      closed = true;
      child.kill();
    },
  };
}

/** The value of one key of a Secret. */
export async function secret(namespace: string, name: string, key: string): Promise<string> {
  const data = await run("kubectl", "-n", namespace, "get", "secret", name, "-o", `jsonpath={.data.${key.replaceAll(".", "\\.")}}`);
  return Buffer.from(data, "base64").toString();
}

/** Runs a query in the Postgres of k8s/standalone. Returns one line per row. */
export async function sql(namespace: string, database: string, statement: string): Promise<string[]> {
  const psql = ["psql", "--no-psqlrc", "-v", "ON_ERROR_STOP=1", "-qAt", "-U", "postgres", "-d", database, "-c", statement];
  const text = await run("kubectl", "-n", namespace, "exec", "postgres-0", "-c", "postgres", "--", ...psql);
  return text.split("\n").filter(Boolean);
}

/** The working set of each pod of a namespace in MiB, as the kubelets measure it. */
export async function workingSets(namespace: string): Promise<Map<string, number>> {
  const nodes = (await run("kubectl", "get", "nodes", "-o", "jsonpath={.items[*].metadata.name}")).split(" ");
  const sets = new Map<string, number>();
  for (const node of nodes) {
    const summary = JSON.parse(await run("kubectl", "get", "--raw", `/api/v1/nodes/${node}/proxy/stats/summary`)) as {
      pods: { podRef: { name: string; namespace: string }; containers?: { name: string; memory?: { workingSetBytes?: number } }[] }[];
    };
    for (const { podRef, containers = [] } of summary.pods) {
      if (podRef.namespace !== namespace) continue;
      const bytes = containers.reduce((sum, container) => sum + (container.memory?.workingSetBytes ?? 0), 0);
      sets.set(podRef.name, Math.round(bytes / 1024 / 1024));
    }
  }
  return sets;
}
