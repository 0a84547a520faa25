/**
 * `npm run rehearse -- OutboxStuck` rehearses a runbook on the platform that `npm start` runs: it makes the fault from
 * outside, waits until the alert fires and the runbook's query shows the cause, undoes the fault, and waits until the
 * alert is resolved. Several names are rehearsed one after the other, `all` means each. It needs Prometheus. It makes
 * patients, so it is not for a platform with real ones. `--namespace patients` rehearses on the release in that
 * namespace of the cluster at KUBECONFIG.
 */
import { parseArgs } from "node:util";
import { SERVICES } from "@pm/stack/names";
import { targetsOf } from "@pm/stack/prometheus";
import type { Running } from "@pm/stack/running";
import { missing } from "../cluster/kubernetes.ts";
import { connectPlatform } from "../cluster/platform.ts";
import { localPlatform } from "../local.ts";
import { startRehearsing } from "./prometheus.ts";
import { type Part, type Place, type Rehearsal, rehearse } from "./rehearsal.ts";
import { everywhere, onOneMachine } from "./rehearsals.ts";

/** A platform whose processes run on this machine, where a stopped part is one that is frozen. */
export function onThisMachine({ gatewayUrl, admin, postgresUrl, pids }: Running): Place {
  const signal = async (part: keyof typeof pids, name: NodeJS.Signals) => {
    if (pids[part].length === 0) throw new Error(`${part} runs in a container or elsewhere: rehearse with STACK=native npm start`);
    for (const pid of pids[part]) process.kill(pid, name);
  };
  return { gatewayUrl, admin, postgresUrl, stop: (part) => signal(part, "SIGSTOP"), start: (part) => signal(part, "SIGCONT") };
}

/** A place, and the ports of this machine with the metrics of its components. */
type Stand = { place: Place; targets: Record<string, number>; leave(): Promise<void> };

/** A release in a cluster, where a stopped part is one that has no pod. */
export async function inNamespace(namespace: string): Promise<Stand> {
  const platform = await connectPlatform(namespace);
  const partOf = (part: Part) => (part === "kafka" ? platform.kafka : platform.services[part]);
  return {
    place: {
      ...{ gatewayUrl: platform.gatewayUrl, admin: platform.admin, postgresUrl: platform.postgres.url },
      stop: (part) => partOf(part).kill(),
      start: (part) => partOf(part).restart(),
    },
    targets: Object.fromEntries(SERVICES.map((name) => [name, Number(new URL(platform.services[name].url).port)])),
    leave: () => platform.stop(),
  };
}

async function stand(namespace: string | undefined): Promise<Stand> {
  if (namespace === undefined) {
    const running = localPlatform();
    return { place: onThisMachine(running), targets: targetsOf(running.ports), leave: async () => undefined };
  }
  const reason = missing();
  if (reason !== undefined) throw new Error(reason);
  return inNamespace(namespace);
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({ options: { namespace: { type: "string" } }, allowPositionals: true });
  const known: Record<string, Rehearsal> = values.namespace === undefined ? { ...everywhere, ...onOneMachine } : everywhere;
  const names = positionals.includes("all") ? Object.keys(known) : positionals;
  const unknown = names.filter((name) => !(name in known));
  if (names.length === 0 || unknown.length > 0)
    throw new Error(
      `${unknown.length > 0 ? `there is no rehearsal ${unknown.join(", ")}` : "name a runbook"}: one of these, or all: ${Object.keys(known).join(", ")}`,
    );
  const interrupted = new AbortController();
  process.once("SIGINT", () => interrupted.abort(new Error("interrupted; what was stopped goes on")));
  const say = (line: string) => void process.stdout.write(`${line}\n`);
  const { place, targets, leave } = await stand(values.namespace);
  const prometheus = await startRehearsing(targets, say).catch(async (error) => {
    await leave();
    throw error;
  });
  try {
    for (const name of names) {
      const rehearsal = known[name] as Rehearsal;
      await rehearse(name, rehearsal, { place, prometheus, say, signal: interrupted.signal });
    }
  } finally {
    await prometheus.stop();
    await leave();
  }
}

if (import.meta.main)
  await main().catch((error: Error) => {
    process.stderr.write(`npm run rehearse: ${error.message}\n`);
    process.exitCode = 1;
  });
