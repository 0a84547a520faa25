/** The house rules, checked instead of hoped for (docs/architecture.md). */
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { basename, dirname, join, relative, resolve } from "node:path";
import { expect, test } from "vitest";

const root = resolve(import.meta.dirname, "..");
const tracked = execFileSync("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], { cwd: root, encoding: "utf8" })
  .split("\0")
  .filter((file) => file !== "" && existsSync(join(root, file)));
const sources = tracked.filter((file) => /^(packages|services|tests|proto)\/.*\.ts$/.test(file) && !file.startsWith("proto/gen/"));
const isTest = (file: string) => /(\.test|\/testing)\.ts$/.test(file);
const text = new Map(sources.map((file) => [file, readFileSync(join(root, file), "utf8")]));

type Import = { from: string; to: string };
const imports: Import[] = sources.flatMap((file) =>
  [...(text.get(file) ?? "").matchAll(/(?:from|import)\s*\(?\s*"([^"]+)"/g)].map(([, specifier = ""]) => {
    const target = specifier.startsWith(".")
      ? relative(root, resolve(root, dirname(file), specifier))
      : specifier.replace(/^@pm\/(kit|stack)\/(.*)$/, "packages/$1/src/$2.ts");
    return { from: file, to: target };
  }),
);

test("no service imports another, and packages import no service", () => {
  const wrong = imports.filter(({ from, to }) => {
    const target = /^services\/([^/]+)\//.exec(to)?.[1];
    if (!target || from.startsWith("tests/")) return false;
    return /^services\/([^/]+)\//.exec(from)?.[1] !== target;
  });
  expect(wrong).toEqual([]);
});

test("imports go one way: main → rest, rpc, events → rules → store", () => {
  const entry = new Set(["main.ts", "rest.ts", "rpc.ts", "events.ts"]);
  const wrong = imports.filter(({ from, to }) => {
    if (!from.startsWith("services/") || !to.startsWith("services/") || isTest(from)) return false;
    const [importer, imported] = [basename(from), basename(to)];
    if (imported === "main.ts") return true;
    // Commands (migrate, verify-…, seed) are entries of their own, like main.
    if (importer === "main.ts" || !entry.has(imported))
      return importer === "store.ts" && !["schema.ts", "store.ts"].includes(imported) && !imported.endsWith("-store.ts");
    return !entry.has(importer);
  });
  expect(wrong).toEqual([]);
});

test("the environment is read in config.ts and nowhere else", () => {
  const readers = sources.filter(
    (file) =>
      /^(services|packages\/kit)\//.test(file) &&
      !isTest(file) &&
      basename(file) !== "config.ts" &&
      text.get(file)?.includes("process.env"),
  );
  expect(readers).toEqual([]);
});

test("services and kit log through the logger, never by console", () => {
  const talkers = sources.filter(
    (file) => /^(services|packages\/kit)\//.test(file) && !isTest(file) && /\bconsole\./.test(text.get(file) ?? ""),
  );
  expect(talkers).toEqual([]);
});

test("nothing is left for later", () => {
  const marker = new RegExp(`\\b(${["TO" + "DO", "FIX" + "ME", "X".repeat(3)].join("|")})\\b`);
  expect(sources.filter((file) => marker.test(text.get(file) ?? ""))).toEqual([]);
});

test("no default exports and no barrels", () => {
  // vitest wants the configuration and a reporter as default exports.
  const allowed = new Set(["tests/reporter.ts", "vitest.config.ts"]);
  expect(sources.filter((file) => !allowed.has(file) && /^export default/m.test(text.get(file) ?? ""))).toEqual([]);
  expect(sources.filter((file) => basename(file) === "index.ts")).toEqual([]);
});

test("every file is imported, run or tested by somebody", () => {
  const imported = new Set(imports.map(({ to }) => to));
  // What npm scripts, manifests, configurations and other programs run by its path.
  const runBy = tracked
    .filter(
      (file) =>
        /(package\.json|\.config\.ts|\.ya?ml|Dockerfile|\.tpl|\.mjs|\.sh|run|README\.md|\.ts)$/.test(file) &&
        !file.includes("/golden/") &&
        statIsText(file),
    )
    .map((file) => readFileSync(join(root, file), "utf8"))
    .join("\n");
  const orphans = sources.filter((file) => {
    if (isTest(file) || imported.has(file) || file.includes("/migrations/")) return false;
    const isEntry = /^services\/[^/]+\/src\/(main|migrate)\.ts$/.test(file);
    return !isEntry && !runBy.includes(file) && !runBy.includes(`"./${basename(file)}"`) && !runBy.includes(`src/${basename(file)}`);
  });
  expect(orphans).toEqual([]);
});

function statIsText(file: string): boolean {
  return !/\.(png|pdf|ico|woff2?)$/.test(file);
}

test("no file names a machine, a registry's host or a neighbour of the repository", () => {
  const words = ["/work/", "/ro" + "ot/", "../sha" + "red", "registry.npm" + "js", "pypi." + "org", "maven." + "org"];
  const wrong = tracked
    .filter((file) => statIsText(file) && file !== ".ci/run" && file !== "package-lock.json" && file !== "tests/tidy.test.ts")
    .filter((file) => words.some((word) => readFileSync(join(root, file), "utf8").includes(word)));
  expect(wrong).toEqual([]);
});
