/**
 * `npm pack` runs this. It writes to dist/ what is published: client.ts, and those files of proto/gen that it needs.
 */
import { cpSync, existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const generated = join(import.meta.dirname, "../../../proto/gen");
const dist = join(import.meta.dirname, "../dist");

/** Copies a generated module, and every module that it imports from its own tree. */
function copy(path: string): void {
  if (existsSync(join(dist, "gen", `${path}.js`))) return;
  for (const file of [`${path}.js`, `${path}.d.ts`]) cpSync(join(generated, file), join(dist, "gen", file));
  const code = readFileSync(join(generated, `${path}.js`), "utf8");
  for (const [, imported = ""] of code.matchAll(/ from "(\.[^"]+)\.js"/g)) copy(join(path, "..", imported));
}

rmSync(dist, { recursive: true, force: true });
const source = readFileSync(join(import.meta.dirname, "client.ts"), "utf8").replaceAll(/"@pm\/proto\/([^"]+)"/g, (_, path) => {
  copy(`${path}_pb`);
  return `"./gen/${path}_pb.js"`;
});
writeFileSync(join(dist, "client.d.ts"), source);
writeFileSync(join(dist, "client.js"), source.replaceAll(/^export type .*\n/gm, ""));
