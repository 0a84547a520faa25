/** Rehearses runbooks on a real platform, with a real Prometheus and the rules of the chart. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Platform, startPlatform } from "@pm/stack/platform";
import { installPrometheus } from "@pm/stack/programs/prometheus";
import { targetsOf } from "@pm/stack/prometheus";
import { readRunning } from "@pm/stack/running";
import { afterAll, beforeAll, describe, test } from "vitest";
import { type Rehearsing, startRehearsing } from "./prometheus.ts";
import { type Rehearsal, rehearse } from "./rehearsal.ts";
import { everywhere, onOneMachine } from "./rehearsals.ts";
import { onThisMachine } from "./rehearse.ts";

const say = (line: string) => void process.stdout.write(`${line}\n`);
const skipped = await installPrometheus(say).then(
  () => undefined,
  (error: Error) => error.message,
);

describe.skipIf(skipped)(
  "a rehearsal makes its alert fire and resolve, and the runbook's query shows the cause",
  {
    timeout: 600_000,
    meta: { ...(skipped !== undefined && { skipped }) },
  },
  () => {
    const dataDir = mkdtempSync(join(tmpdir(), "pm-rehearsals-"));
    let platform: Platform;
    let prometheus: Rehearsing;
    beforeAll(async () => {
      platform = await startPlatform({ dataDir, durable: false });
      prometheus = await startRehearsing(targetsOf(platform.ports), say);
    });
    afterAll(async () => {
      await prometheus?.stop();
      await platform?.stop();
      rmSync(dataDir, { recursive: true, force: true });
    });

    const rehearsals: Record<string, Rehearsal> = { ...everywhere, ...onOneMachine };
    test.each(Object.entries(rehearsals))("%s", async (name, rehearsal) => {
      const place = onThisMachine(readRunning(dataDir));
      await rehearse(name, rehearsal, { place, prometheus, say, signal: new AbortController().signal });
    });
  },
);
