/**
 * JSON schemas for kubeconform. They come from KUBECONFORM_SCHEMA_LOCATION, otherwise from the API server at KUBECONFIG
 * (the operators' types too, if their definitions are installed), otherwise from a package and from the definitions of
 * definitions.ts, or of the folder CRD_DIRECTORY. The schemas are closed: a field that a type lacks is an error.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cached } from "@pm/stack/programs/cache";
import { installPythonProgram, missingForPythonProgram, packagesIn } from "@pm/stack/programs/python";
import { KUBERNETES_SCHEMAS } from "@pm/stack/versions";
import { parseAllDocuments } from "yaml";
import { installDefinitions } from "./definitions.ts";
import { kubernetesVersion, run, say } from "./render.ts";

type Schema = { [key: string]: unknown };

/** Where kubeconform looks, in this order. If there are no schemas of Kubernetes' own types, an error that says why. */
export async function schemaLocations(): Promise<string[] | Error> {
  const { KUBECONFORM_SCHEMA_LOCATION: given, KUBECONFIG: kubeconfig } = process.env;
  const cluster = !given && kubeconfig !== undefined && spawnSync("kubectl", ["get", "--raw", "/readyz"]).status === 0;
  const locations: string[] = [];
  const crdDirectory = process.env.CRD_DIRECTORY ?? (given || cluster ? undefined : await definitions());
  if (cluster || crdDirectory) {
    const folder = mkdtempSync(join(tmpdir(), "pm-schemas-"));
    process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
    if (cluster) fromCluster(folder);
    if (crdDirectory) fromDefinitions(folder, crdDirectory);
    locations.push(join(folder, "{{.ResourceKind}}-{{.Group}}-{{.ResourceAPIVersion}}.json"));
  }
  if (given) return [...locations, given];
  if (cluster) return locations;
  const packaged = await fromPackage().catch((error: Error) => error);
  return packaged instanceof Error ? packaged : [...locations, join(packaged, "{{.ResourceKind}}{{.KindSuffix}}.json")];
}

/** Without them, the test says which types it skips. */
async function definitions(): Promise<string | undefined> {
  try {
    return await installDefinitions();
  } catch (error) {
    say(`kubeconform: no types of operators: ${(error as Error).message}`);
    return undefined;
  }
}

function fromPackage(): Promise<string> {
  return cached(`kubernetes-schemas-${kubernetesVersion}`, say, async (folder) => {
    const missing = await missingForPythonProgram("the schemas of Kubernetes");
    if (missing.length > 0) throw new Error(missing.join(", "));
    const venv = mkdtempSync(join(tmpdir(), "pm-schemas-"));
    try {
      say("kubeconform: downloading the schemas of Kubernetes with pip (23 MB, once)");
      await installPythonProgram(venv, KUBERNETES_SCHEMAS.requirement, KUBERNETES_SCHEMAS.sha256);
      const source = join(packagesIn(venv), "kubernetes_validate/kubernetes-json-schema", `v${kubernetesVersion}-local-strict`);
      for (const name of readdirSync(source)) {
        // The schemas refer to each other by addresses that only kubernetes-validate understands.
        const { $id: _, ...schema } = JSON.parse(readFileSync(join(source, name), "utf8")) as Schema;
        writeFileSync(join(folder, name), JSON.stringify(schema).replaceAll('"/api/_definitions.json#', '"_definitions.json#'));
      }
    } finally {
      rmSync(venv, { recursive: true, force: true });
    }
  });
}

function fromCluster(folder: string): void {
  const { paths } = JSON.parse(run("kubectl", ["get", "--raw", "/openapi/v3"])) as { paths: Record<string, unknown> };
  for (const path of Object.keys(paths).filter((name) => /^apis?\/.*v\d/.test(name))) {
    const { components } = JSON.parse(run("kubectl", ["get", "--raw", `/openapi/v3/${path}`])) as {
      components?: { schemas?: Record<string, Schema> };
    };
    const schemas = components?.schemas ?? {};
    for (const [name, schema] of Object.entries(schemas)) {
      const kinds = schema["x-kubernetes-group-version-kind"] as { group: string; version: string; kind: string }[] | undefined;
      if (kinds?.length !== 1 || !kinds[0]) continue;
      write(folder, kinds[0], { $ref: `#/components/schemas/${name}`, components: { schemas: close(schemas) } });
    }
  }
}

function fromDefinitions(folder: string, directory: string): void {
  for (const file of readdirSync(directory).filter((name) => /\.ya?ml$/.test(name))) {
    for (const document of parseAllDocuments(readFileSync(join(directory, file), "utf8"))) {
      const definition = document.toJS() as {
        kind?: string;
        spec: { group: string; names: { kind: string }; versions: { name: string; schema: { openAPIV3Schema: Schema } }[] };
      } | null;
      if (definition?.kind !== "CustomResourceDefinition") continue;
      const { group, names, versions } = definition.spec;
      for (const { name, schema } of versions) {
        const open = schema.openAPIV3Schema;
        // A definition leaves `metadata` open. The API server checks it by its own type, which is not in the file.
        const properties = { ...(open.properties as Schema), apiVersion: { type: "string" }, kind: { type: "string" } };
        const closed = close({ ...open, properties }) as Schema & { properties: Schema };
        write(
          folder,
          { group, version: name, kind: names.kind },
          { ...closed, properties: { ...closed.properties, metadata: { type: "object" } } },
        );
      }
    }
  }
}

function write(folder: string, type: { group: string; version: string; kind: string }, schema: Schema): void {
  // kubeconform calls the core group, which has no name, by its version.
  writeFileSync(join(folder, `${type.kind.toLowerCase()}-${type.group || type.version}-${type.version}.json`), JSON.stringify(schema));
}

/** Refuses unknown fields where a schema lists its fields and does not allow others. */
function close(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(close);
  if (typeof schema !== "object" || schema === null) return schema;
  const copy = Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, close(value)]));
  const listsFields = typeof copy.properties === "object" && copy.type === "object";
  if (listsFields && copy.additionalProperties === undefined && !copy["x-kubernetes-preserve-unknown-fields"])
    copy.additionalProperties = false;
  return copy;
}
