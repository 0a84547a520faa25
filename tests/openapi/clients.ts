/**
 * One of `npm run check:judges`: openapi-generator makes a client in Java and one in TypeScript from the OpenAPI
 * document of each service, and they compile. Ends with 1 if one does not.
 */
import { globSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run } from "@pm/stack/programs/child";
import { javaProgram } from "@pm/stack/programs/java";
import { services } from "./documents.ts";
import { installGenerator } from "./generator.ts";

const say = (line: string) => void process.stdout.write(`${line}\n`);

const { jar, classPath } = await installGenerator(say);
const folder = mkdtempSync(join(tmpdir(), "pm-clients-"));

const languages = {
  Java: {
    settings: { generatorName: "java", library: "native" },
    compile: (client: string) => {
      const options = ["-proc:none", "-nowarn", "-d", join(client, "classes"), "-cp", classPath];
      return run(javaProgram("javac"), [...options, ...globSync(join(client, "src/main/**/*.java"))]);
    },
  },
  TypeScript: {
    settings: { generatorName: "typescript-fetch" },
    compile: (client: string) => {
      const options = "--noEmit --strict --module esnext --moduleResolution bundler --target es2024 --lib es2024,dom".split(" ");
      return run("tsc", [...options, join(client, "index.ts")], { cwd: folder });
    },
  },
};

const clients = services.flatMap(({ service, file }) =>
  Object.entries(languages).map(([language, { settings, compile }]) => {
    const client = join(folder, `${service}-${language}`);
    return { name: `${service}'s client in ${language}`, client, compile, config: { ...settings, inputSpec: file, outputDir: client } };
  }),
);

let failed = 0;
try {
  for (const { client, config } of clients) writeFileSync(`${client}.json`, JSON.stringify(config));
  say(`openapi-generator makes ${clients.length} clients`);
  // It says which of them it could not make, and why.
  await run(javaProgram("java"), ["-jar", jar, "batch", ...clients.map(({ client }) => `${client}.json`)]).catch(
    ({ message }: Error) => void say(message),
  );
  for (const { name, client, compile } of clients) {
    const problem = await compile(client).then(
      () => undefined,
      ({ message }: Error) => message.slice(message.indexOf("\n") + 1),
    );
    say(problem === undefined ? `ok ${name}` : `${problem}\nFAILED ${name} does not compile: ${problem.split("\n")[0]}`);
    if (problem !== undefined) failed++;
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
say(`${clients.length - failed} passed, ${failed} failed`);
process.exitCode = failed > 0 ? 1 : 0;
