/**
 * JSON schemas for kubeconform where its own cannot be downloaded: from what the API server at KUBECONFIG says about its
 * types (the operators' too where their definitions are installed), and from files of CustomResourceDefinitions in the folder
 * that CRD_DIRECTORY names. Closed: a field that the type does not have is an error.
 */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseAllDocuments } from "yaml";
import { run } from "./render.ts";

type Schema = { [key: string]: unknown };

/** Writes `<kind>-<group>-<version>.json` for every type into `folder` and returns kubeconform's template for them. */
export function writeSchemas(folder: string, sources: { cluster: boolean; crdDirectory?: string | undefined }): string {
  mkdirSync(folder, { recursive: true });
  if (sources.cluster) fromCluster(folder);
  if (sources.crdDirectory) fromDefinitions(folder, sources.crdDirectory);
  return join(folder, "{{.ResourceKind}}-{{.Group}}-{{.ResourceAPIVersion}}.json");
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
        // A definition leaves `metadata` open; the API server closes it by its own type, which is not in the file.
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
  // For kubeconform the core group, which has no name, is called like its version.
  writeFileSync(join(folder, `${type.kind.toLowerCase()}-${type.group || type.version}-${type.version}.json`), JSON.stringify(schema));
}

/** Refuses unknown fields wherever a schema lists fields and does not say that there may be others. */
function close(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(close);
  if (typeof schema !== "object" || schema === null) return schema;
  const copy = Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, close(value)]));
  const listsFields = typeof copy.properties === "object" && copy.type === "object";
  if (listsFields && copy.additionalProperties === undefined && !copy["x-kubernetes-preserve-unknown-fields"])
    copy.additionalProperties = false;
  return copy;
}
