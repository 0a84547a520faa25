import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { cached, type Progress } from "./cache.ts";
import { hasProgram, run } from "./child.ts";

/**
 * Returns the commands of Prometheus and its promtool: those on the PATH, or else, on Debian and its relatives, those
 * of the package, which is unpacked once and not installed, so that nothing of it starts by itself.
 * @throws Error with the reason if neither can be had
 */
export async function installPrometheus(progress: Progress): Promise<{ prometheus: string; promtool: string }> {
  if ((await hasProgram("prometheus")) && (await hasProgram("promtool"))) return { prometheus: "prometheus", promtool: "promtool" };
  if (!(await hasProgram("apt-get"))) throw new Error('install Prometheus (program "prometheus"; macOS: brew install prometheus)');
  const dir = await cached("prometheus-debian", progress, async (target) => {
    progress("downloading Prometheus with apt-get (20 MB, once)");
    const work = join(target, "download");
    mkdirSync(work);
    const download = () => run("apt-get", ["download", "-q", "prometheus"], { cwd: work });
    // A machine whose lists of packages were never fetched knows no package.
    await download().catch(() => run("apt-get", ["update", "-qq"]).then(download));
    await run("sh", ["-c", `dpkg-deb -x download/prometheus_*.deb . && rm -r download`], { cwd: target });
  });
  const bin = join(dir, "usr", "bin");
  return { prometheus: join(bin, "prometheus"), promtool: join(bin, "promtool") };
}
