import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { COLLECTOR } from "../versions.ts";
import { cacheDir, cached, isCached, type Progress } from "./cache.ts";
import { run } from "./child.ts";
import { findOrInstallGo, goEnvironment } from "./go-programs.ts";

const NAME = `collector-${COLLECTOR.version}`;

/** The collector if it has been built. @throws Error that says what builds it */
export function builtCollector(): string {
  if (!isCached(NAME)) throw new Error("there is no collector: `npm start -- --observe` builds it, once and for some minutes");
  return join(cacheDir(), NAME, "collector");
}

/**
 * Returns the path of an OpenTelemetry collector with the parts that we use. It is built from source, once: no package
 * registry has a collector, and those of GitHub have several hundred parts.
 */
export async function installCollector(progress: Progress): Promise<string> {
  const dir = await cached(NAME, progress, async (target) => {
    const work = mkdtempSync(join(tmpdir(), "pm-collector-"));
    try {
      const go = await findOrInstallGo(work, progress);
      progress(`collector: building the OpenTelemetry collector ${COLLECTOR.version} (once; takes some minutes)`);
      const config = join(work, "builder.json");
      const parts = Object.entries(COLLECTOR.parts).map(([kind, modules]) => [kind, modules.map((gomod) => ({ gomod }))]);
      const dist = { name: "collector", output_path: target, version: COLLECTOR.version, go };
      writeFileSync(config, JSON.stringify({ dist, ...Object.fromEntries(parts) }));
      const builder = `go.opentelemetry.io/collector/cmd/builder@v${COLLECTOR.version}`;
      await run(go, ["run", builder, "--config", config], { env: goEnvironment(work) });
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
  });
  return join(dir, "collector");
}
