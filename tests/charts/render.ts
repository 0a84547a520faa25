/** Renders the chart and the kustomizations by the tools that operators use. */
import { spawnSync } from "node:child_process";
import { join, resolve } from "node:path";
import { installGoPrograms } from "@pm/stack/programs/go-programs";
import { parseAllDocuments } from "yaml";

export const root = resolve(import.meta.dirname, "../..");
export const chart = join(root, "charts/patient-management");

/** The Kubernetes version of the renders. A client without a cluster may assume a much older one. */
export const kubernetesVersion = "1.34.0";

/** A Kubernetes object, with the fields that the tests read of every object. */
export type Manifest = {
  apiVersion: string;
  kind: string;
  metadata: { name: string; labels?: Record<string, string>; annotations?: Record<string, string> };
  spec?: Record<string, unknown>;
  data?: Record<string, string>;
  [key: string]: unknown;
};

/** Each is on the path or built once. Otherwise an error says why it is missing. */
export const programs = await installGoPrograms(["helm", "kubeconform", "kustomize"], say);

/** Why tests that need these programs cannot run here. Undefined if they can. */
export function whyNot(...names: (keyof typeof programs)[]): string | undefined {
  const reasons = names.flatMap((name) => (programs[name] instanceof Error ? [`no ${name}: ${programs[name].message}`] : []));
  return reasons.length > 0 ? reasons.join("; ") : undefined;
}

export function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** @throws Error with the output of the program, if it fails. */
export function run(program: string, args: string[], input?: string): string {
  const result = spawnSync(program, args, { encoding: "utf8", input, maxBuffer: 64 * 1024 * 1024 });
  if (result.status !== 0) throw new Error(`${program} ${args.join(" ")}\n${result.stdout}\n${result.stderr}`);
  return result.stdout;
}

const rendered = new Map<string, string>();

/** What a command prints. The same command runs only once. */
function once(program: string, args: string[]): string {
  const key = [program, ...args].join(" ");
  const text = rendered.get(key) ?? run(program, args);
  rendered.set(key, text);
  return text;
}

/** `helm template` with the given values files over the defaults. */
export function renderChart(valuesFiles: string[], settings: string[] = []): string {
  return once(String(programs.helm), [
    ...["template", "pms", chart, "--namespace", "patients", "--kube-version", kubernetesVersion],
    ...valuesFiles.flatMap((file) => ["--values", file]),
    ...settings.flatMap((setting) => ["--set", setting]),
  ]);
}

/** What `kubectl apply -k` sends for a folder of k8s/. */
export function renderKustomization(name: string): string {
  return once(String(programs.kustomize), ["build", join(root, "k8s", name)]);
}

/** @throws Error if the text is not YAML. */
export function parse(yaml: string): Manifest[] {
  return parseAllDocuments(yaml).flatMap((document) => {
    if (document.errors.length > 0) throw document.errors[0];
    const value = document.toJS() as Manifest | null;
    return value === null ? [] : [value];
  });
}
