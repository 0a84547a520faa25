/** Checks the rules of docs/architecture.md. */
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { basename, dirname, join, relative, resolve } from "node:path";
import { expect, test } from "vitest";

const root = resolve(import.meta.dirname, "..");
const tracked = execFileSync("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], { cwd: root, encoding: "utf8" })
  .split("\0")
  .filter((file) => file !== "" && existsSync(join(root, file)));
const sources = tracked.filter(
  (file) => /^(packages|services|tests|proto|infrastructure)\/.*\.ts$/.test(file) && !file.startsWith("proto/gen/"),
);
const isTest = (file: string) => /(\.test|\/testing)\.ts$|^(services|packages)\/[^/]+\/test\//.test(file);
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

/** The role of a file, by its name. `rest`, `rpc` and `store` may be suffixes (`users-rest.ts`). */
type Role = "main" | "command" | "door" | "rules" | "store" | "base" | "migration";

function roleOf(file: string): Role {
  const name = basename(file, ".ts");
  if (file.includes("/migrations/")) return "migration";
  if (file.includes("/commands/")) return "command";
  if (name === "main") return "main";
  if (/^(.+-)?(rest|rpc)$/.test(name)) return "door";
  if (/^(.+-)?store$/.test(name)) return "store";
  return foundations.has(name) ? "base" : "rules";
}

/** Files that rules and stores of a service both import: the tables as types, the database and its unit of work. */
const foundations = new Set(["tables", "database", "unit-of-work", "config", "types"]);

/** The roles that a file of each role may import from its own service. */
const mayImport: Record<Role, Role[]> = {
  main: ["door", "rules", "store", "base"],
  command: ["rules", "store", "base"],
  door: ["door", "rules", "store", "base"],
  rules: ["rules", "store", "base"],
  store: ["store", "base"],
  base: ["store", "base"],
  migration: ["migration"],
};

const serviceSources = sources.filter((file) => /^services\/[^/]+\/src\//.test(file) && !isTest(file));

test("imports go one way: main and commands → rest, rpc → rules → store → tables", () => {
  const wrong = imports.filter(
    ({ from, to }) => serviceSources.includes(from) && serviceSources.includes(to) && !mayImport[roleOf(from)].includes(roleOf(to)),
  );
  expect(wrong).toEqual([]);
});

test("SQL stands in stores and nowhere else", () => {
  const query =
    /\bsql(<[^`]*>)?`|\.(selectFrom|insertInto|updateTable|deleteFrom|mergeInto)\(|\.(query|raw)\(\s*["'`]|\b(select|insert into|update|delete from)\s[^"`]*\b(from|values|set|where)\s/;
  const code = (file: string) => (text.get(file) ?? "").replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, "");
  const wrong = serviceSources.filter((file) => !["store", "migration"].includes(roleOf(file)) && query.test(code(file)));
  expect(wrong).toEqual([]);
});

/** The circles of a graph. Each is given once, by its members in order. */
function circlesOf(edges: Import[]): string[] {
  const next = Map.groupBy(edges, ({ from }) => from);
  const circles = new Set<string>();
  const finished = new Set<string>();
  const visit = (node: string, path: string[]): void => {
    const start = path.indexOf(node);
    if (start !== -1) circles.add([...path.slice(start), node].join(" → "));
    if (start !== -1 || finished.has(node)) return;
    for (const { to } of next.get(node) ?? []) visit(to, [...path, node]);
    finished.add(node);
  };
  for (const node of next.keys()) visit(node, []);
  return [...circles];
}

test("no files import each other in a circle", () => {
  expect(circlesOf(imports.filter(({ from, to }) => text.has(from) && text.has(to)))).toEqual([]);
});

test("no folders import each other in a circle", () => {
  // The top level does not count as a folder: main.ts imports every noun, and every noun imports the tables.
  const folderOf = (file: string) => /^((?:services|packages)\/[^/]+\/src\/[^/]+)\//.exec(file)?.[1];
  const edges = imports.flatMap(({ from, to }) => {
    const [source, target] = [folderOf(from), folderOf(to)];
    return isTest(from) || !source || !target || source === target ? [] : [{ from: source, to: target }];
  });
  expect(circlesOf(edges)).toEqual([]);
});

test("the top level of a service shows at most eight files beside the folders of its nouns", () => {
  const topLevel = Map.groupBy(
    serviceSources.filter((file) => file.split("/").length === 4),
    (file) => dirname(file),
  );
  expect([...topLevel].filter(([, files]) => files.length > 8)).toEqual([]);
});

test("no file has more than 300 lines", () => {
  const lines = (file: string) => (text.get(file) ?? "").split("\n").length - 1;
  expect(sources.filter((file) => !isTest(file) && lines(file) > 300).map((file) => `${file}: ${lines(file)}`)).toEqual([]);
});

test("the linter lets no function but a describe block have more than 80 lines", () => {
  const rule = "lint/complexity/" + "noExcessiveLinesPerFunction";
  const wrong = sources.filter((file) =>
    (text.get(file) ?? "").split("\n").some((line, index, lines) => line.includes(rule) && !/^describe\b/.test(lines[index + 1] ?? "")),
  );
  expect(wrong).toEqual([]);
});

test("integration tests and test helpers stand in test/, unit tests beside their file", () => {
  const inSource = sources.filter((file) => /^(services|packages\/kit)\/.*\/src\/.*(\.(int|e2e)\.test|\/testing)\.ts$/.test(file));
  expect(inSource).toEqual([]);
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

test("a database is called db, and an open transaction tx", () => {
  const other = /\b(database|transaction|trx)\??: (?!TestDatabase\b)(\w*(Database|Queries)\b|\w+Transaction\b|Transaction<|Kysely<|Db\b)/;
  expect(sources.filter((file) => other.test(text.get(file) ?? ""))).toEqual([]);
});

test("comments and documents have at most 120 columns", () => {
  const isLongComment = (line: string) => line.length > 120 && /^\s*(\/\/|\/?\*\*?) /.test(line) && !line.includes("biome-ignore");
  // Tables, commands and what is generated from a proto file or a chart have lines as long as they need.
  const prose = (document: string) => document.replace(/^( *)```[\s\S]*?^\1```|^ *\|.*$|^<!-- Made from[\s\S]*/gm, "");
  const wrong = [
    ...sources.filter((file) => text.get(file)?.split("\n").some(isLongComment)),
    ...tracked
      .filter((file) => file.endsWith(".md") && !file.startsWith("charts/"))
      .filter((file) =>
        prose(readFileSync(join(root, file), "utf8"))
          .split("\n")
          .some((line) => line.length > 120),
      ),
  ];
  expect(wrong).toEqual([]);
});

test("nothing is left for later", () => {
  const marker = new RegExp(`\\b(${["TO" + "DO", "FIX" + "ME", "X".repeat(3)].join("|")})\\b`);
  expect(sources.filter((file) => marker.test(text.get(file) ?? ""))).toEqual([]);
});

test("no default exports and no barrels", () => {
  // vitest expects default exports for its configuration and for reporters.
  const allowed = new Set(["tests/reporter.ts", "vitest.config.ts"]);
  expect(sources.filter((file) => !allowed.has(file) && /^export default/m.test(text.get(file) ?? ""))).toEqual([]);
  expect(sources.filter((file) => basename(file) === "index.ts")).toEqual([]);
});

test("every file is imported, run or tested by somebody", () => {
  const imported = new Set(imports.map(({ to }) => to));
  // The text of all files that may run a source by its path: npm scripts, manifests, configurations, other programs.
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
    const isEntry = /^services\/[^/]+\/src\/(main|commands\/[^/]+)\.ts$/.test(file);
    return !isEntry && !runBy.includes(file) && !runBy.includes(`"./${basename(file)}"`) && !runBy.includes(`src/${basename(file)}`);
  });
  expect(orphans).toEqual([]);
});

function statIsText(file: string): boolean {
  return !/\.(png|pdf|ico|woff2?)$/.test(file);
}

test("every file that a document names exists", () => {
  const documents = tracked.filter((file) => file.endsWith(".md"));
  const missing = documents.flatMap((document) =>
    [
      ...readFileSync(join(root, document), "utf8").matchAll(
        /\b(?:services|packages|tests|proto|charts|k8s|docs|infrastructure)\/[\w./-]+\.\w+/g,
      ),
    ]
      .map(([path]) => path)
      .filter((path) => /\.(m?ts|ya?ml|md|json|sh|sql)$/.test(path) && !existsSync(join(root, path)))
      .map((path) => `${document}: ${path}`),
  );
  expect(missing).toEqual([]);
});

test("no file names a machine, a registry's host or a neighbour of the repository", () => {
  const words = ["/work/", "/ro" + "ot/", "../sha" + "red", "registry.npm" + "js", "pypi." + "org", "maven." + "org"];
  const wrong = tracked
    .filter((file) => statIsText(file) && file !== ".ci/run" && file !== "package-lock.json" && file !== "tests/tidy.test.ts")
    .filter((file) => words.some((word) => readFileSync(join(root, file), "utf8").includes(word)));
  expect(wrong).toEqual([]);
});
