/** Rehearses runbooks on a real platform, with a real Prometheus and the rules of the chart. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Platform, startPlatform } from "@pm/stack/platform";
import { readRunning } from "@pm/stack/running";
import { afterAll, beforeAll, describe, test } from "vitest";
import { whyNot } from "../charts/render.ts";
import { type Prometheus, startPrometheus } from "./prometheus.ts";
import { type Rehearsal, rehearse } from "./rehearsal.ts";
import { everywhere, onOneMachine } from "./rehearsals.ts";
import { metricsOf, onThisMachine } from "./rehearse.ts";

const hasPrometheus = spawnSync("prometheus", ["--version"]).status === 0;
const skipped = whyNot("helm") ?? (hasPrometheus ? undefined : "no prometheus on the PATH (Debian: apt install prometheus)");

describe.skipIf(skipped)(
  "a rehearsal makes its alert fire and resolve, and the runbook's query shows the cause",
  {
    timeout: 600_000,
    meta: { ...(skipped !== undefined && { skipped }) },
  },
  () => {
    const dataDir = mkdtempSync(join(tmpdir(), "pm-rehearsals-"));
    let platform: Platform;
    let prometheus: Prometheus;
    beforeAll(async () => {
      platform = await startPlatform({ dataDir, durable: false });
      prometheus = await startPrometheus(metricsOf(readRunning(dataDir)));
    });
    afterAll(async () => {
      await prometheus?.stop();
      await platform?.stop();
      rmSync(dataDir, { recursive: true, force: true });
    });

    // Not here, because they need a machine that does nothing else: what ConsumerLag sees depends on when a fetch was answered,
    // and RequestsSlow ends when every request is quick again. An operator rehearses both by the command.
    const { ConsumerLag: _lag, ...steady } = everywhere;
    const { RequestsSlow: _slow, ...frozen } = onOneMachine;
    const rehearsals: Record<string, Rehearsal> = { ...steady, ...frozen };
    test.each(Object.entries(rehearsals))("%s", async (name, rehearsal) => {
      const say = (line: string) => void process.stdout.write(`${line}\n`);
      const place = onThisMachine(readRunning(dataDir));
      await rehearse(name, rehearsal, { place, prometheus, say, signal: new AbortController().signal });
    });
  },
);
