/** openapi-typescript makes types from the documents, and they fit every example that the documents give. */
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { run } from "@pm/stack/programs/child";
import openapiTS, { astToString } from "openapi-typescript";
import { afterAll, expect, test } from "vitest";
import { exampleOf, operationsOf, services } from "./documents.ts";

type Service = (typeof services)[number];

const folder = mkdtempSync(join(tmpdir(), "pm-client-types-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/**
 * A program that calls each operation with its examples by openapi-fetch, and takes each example of an answer for one.
 */
function programFor({ service, document }: Service): string {
  const lines = operationsOf(document).flatMap((operation) => {
    const { operationId, method, path, parameters, requestBody, responses } = operation;
    const params = Map.groupBy(
      parameters.filter(({ required }) => required),
      (parameter) => parameter.in,
    );
    const init = {
      params: Object.fromEntries(
        [...params].map(([place, all]) => [place, Object.fromEntries(all.map((one) => [one.name, exampleOf(document, one)]))]),
      ),
      ...(requestBody && { body: exampleOf(document, Object.values(requestBody.content)[0] ?? {}) }),
    };
    const call = `export const ${operationId} = () => client.${method.toUpperCase()}(${JSON.stringify(path)}, ${JSON.stringify(init)});`;
    const answers = Object.entries(responses).flatMap(([status, { content = {} }]) =>
      Object.entries(content).map(([type, media], index) => {
        const typeOf = ["paths", path, method, "responses", status, "content", type].reduce((of, key) =>
          /^[1-5]\d\d$/.test(key) ? `${of}[${key}]` : `${of}[${JSON.stringify(key)}]`,
        );
        const example = exampleOf(document, media);
        return example === undefined ? "" : `export const ${operationId}${status}${index}: ${typeOf} = ${JSON.stringify(example)};`;
      }),
    );
    return [call, ...answers.filter(Boolean)];
  });
  const imports = ['import createClient from "openapi-fetch";', `import type { paths } from "./${service}-types.ts";`];
  return [...imports, 'const client = createClient<paths>({ baseUrl: "https://example.com" });', ...lines, ""].join("\n");
}

test("the types of every document fit the examples of its operations", { timeout: 30_000 }, async () => {
  const root = resolve(import.meta.dirname, "../..");
  for (const service of services) {
    writeFileSync(join(folder, `${service.service}-types.ts`), astToString(await openapiTS(JSON.stringify(service.document))));
    writeFileSync(join(folder, `${service.service}-client.ts`), programFor(service));
  }
  writeFileSync(join(folder, "package.json"), '{ "type": "module" }');
  symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
  const compilerOptions = { lib: ["es2024", "dom", "dom.iterable"], types: [] };
  writeFileSync(
    join(folder, "tsconfig.json"),
    JSON.stringify({ extends: join(root, "tsconfig.json"), compilerOptions, include: ["*.ts"] }),
  );
  await expect(run("tsc", ["--project", folder])).resolves.toBe("");
});
