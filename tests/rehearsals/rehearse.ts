/**
 * `npm run rehearse -- OutboxStuck` rehearses a runbook on the platform that `npm start` runs: it makes the fault from
 * outside, waits until the alert fires and the runbook's query shows the cause, undoes the fault, and waits until the
 * alert is resolved. Several names are rehearsed one after the other, `all` means each. It needs Prometheus. It makes
 * patients, so it is not for a platform with real ones.
 */
import { targetsOf } from "@pm/stack/prometheus";
import type { Running } from "@pm/stack/running";
import { localPlatform } from "../local.ts";
import { startRehearsing } from "./prometheus.ts";
import { type Place, type Rehearsal, rehearse } from "./rehearsal.ts";
import { everywhere, onOneMachine } from "./rehearsals.ts";

const known: Record<string, Rehearsal> = { ...everywhere, ...onOneMachine };

/** A platform whose processes run on this machine, where a stopped part is one that is frozen. */
export function onThisMachine({ gatewayUrl, admin, postgresUrl, pids }: Running): Place {
  const signal = async (part: keyof typeof pids, name: NodeJS.Signals) => {
    if (pids[part].length === 0) throw new Error(`${part} runs in a container or elsewhere: rehearse with STACK=native npm start`);
    for (const pid of pids[part]) process.kill(pid, name);
  };
  return { gatewayUrl, admin, postgresUrl, stop: (part) => signal(part, "SIGSTOP"), start: (part) => signal(part, "SIGCONT") };
}

async function main(wanted: string[]): Promise<void> {
  const names = wanted.includes("all") ? Object.keys(known) : wanted;
  const unknown = names.filter((name) => !(name in known));
  if (names.length === 0 || unknown.length > 0)
    throw new Error(
      `${unknown.length > 0 ? `there is no rehearsal ${unknown.join(", ")}` : "name a runbook"}: one of these, or all: ${Object.keys(known).join(", ")}`,
    );
  const running = localPlatform();
  const interrupted = new AbortController();
  process.once("SIGINT", () => interrupted.abort(new Error("interrupted; what was stopped goes on")));
  const say = (line: string) => void process.stdout.write(`${line}\n`);
  const prometheus = await startRehearsing(targetsOf(running.ports), say);
  try {
    for (const name of names) {
      const rehearsal = known[name] as Rehearsal;
      await rehearse(name, rehearsal, { place: onThisMachine(running), prometheus, say, signal: interrupted.signal });
    }
  } finally {
    await prometheus.stop();
  }
}

if (import.meta.main)
  await main(process.argv.slice(2)).catch((error: Error) => {
    process.stderr.write(`npm run rehearse: ${error.message}\n`);
    process.exitCode = 1;
  });
