import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { installGoPrograms } from "./go-programs.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "pm-programs-"));
  // Of the usual path only what has the shell, and no other helm.
  vi.stubEnv("PATH", [folder, "/usr/bin", "/bin"].join(delimiter));
  vi.stubEnv("PM_CACHE_DIR", join(folder, "cache"));
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true, force: true });
});

const program = (name: string, script: string) => writeFileSync(join(folder, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
const silent = () => undefined;

test("a program that is on the path is taken as it is", async () => {
  program("helm", "exit 0");
  program("go", "echo must not be asked >&2; exit 1");
  expect(await installGoPrograms(["helm"], silent)).toEqual({ helm: "helm" });
});

test("a program is built once from its pinned source, and found in the cache afterwards", async () => {
  program("go", 'echo built > "$GOBIN/kubeconform"');
  const first = await installGoPrograms(["kubeconform"], silent);
  program("go", "echo must not be asked again >&2; exit 1");
  expect(await installGoPrograms(["kubeconform"], silent)).toEqual(first);
  expect(first.kubeconform).toBe(join(folder, "cache", "kubeconform-0.8.0", "kubeconform"));
  expect(existsSync(String(first.kubeconform))).toBe(true);
});

test("what cannot be built is the error that says why, and does not keep the others from being found", async () => {
  program("go", "echo the module proxy does not answer >&2; exit 1");
  program("kubeconform", "exit 0");
  const { helm, kubeconform } = await installGoPrograms(["helm", "kubeconform"], silent);
  expect(kubeconform).toBe("kubeconform");
  expect(String(helm)).toContain("the module proxy does not answer");
});
