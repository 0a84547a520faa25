/** A release of the chart on top of k8s/standalone, in its own namespace. */
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { resolve } from "node:path";
import { apply, run, until } from "./kubernetes.ts";

const root = resolve(import.meta.dirname, "../..");
const chart = resolve(root, "charts/patient-management");
const release = "pms";

/** The images on this cluster: CLUSTER_IMAGE_REGISTRY, and CLUSTER_IMAGE_TAG (`dev` by default). */
export const imageTag = process.env.CLUSTER_IMAGE_TAG ?? "dev";
const settings = process.env.CLUSTER_IMAGE_REGISTRY ? ["--set", `image.registry=${process.env.CLUSTER_IMAGE_REGISTRY}`] : [];

/** Creates a namespace that enforces Pod Security `restricted`, with the key and the volume of published heads. */
export async function createNamespace(): Promise<string> {
  const namespace = `pm-test-${randomBytes(3).toString("hex")}`;
  await run("kubectl", "create", "namespace", namespace);
  await run("kubectl", "label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted");
  const key = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey.export({ type: "pkcs8", format: "pem" });
  await apply(namespace, { apiVersion: "v1", kind: "Secret", metadata: { name: "audit-head-key" }, stringData: { "key.pem": key } });
  await apply(namespace, {
    ...{ apiVersion: "v1", kind: "PersistentVolumeClaim", metadata: { name: "audit-heads" } },
    spec: { accessModes: ["ReadWriteOnce"], resources: { requests: { storage: "64Mi" } } },
  });
  return namespace;
}

/** Applies Postgres and Kafka. Does not wait for them, because the chart's migrations do. */
export async function applyStandalone(namespace: string): Promise<void> {
  await run("kubectl", "-n", namespace, "apply", "-k", resolve(root, "k8s/standalone"));
}

/** Installs or upgrades the release. Returns when all its pods are ready. */
export async function upgrade(namespace: string, ...values: string[]): Promise<void> {
  const all = [`image.tag=${imageTag}`, "doctor.enabled=true", "auditHeads.enabled=true", ...values];
  const args = ["upgrade", "--install", release, chart, "-n", namespace, ...settings];
  await run("helm", ...args, ...all.flatMap((value) => ["--set", value]), "--wait", "--timeout", "9m");
}

export async function cronJobs(namespace: string): Promise<string[]> {
  const names = await run("kubectl", "-n", namespace, "get", "cronjobs", "-o", "jsonpath={.items[*].metadata.name}");
  return names.split(" ");
}

/** Runs a CronJob once. Returns what its containers say, and whether the Job succeeded. */
export async function runCronJob(namespace: string, name: string): Promise<{ text: string; isWell: boolean }> {
  const job = `${name}-${randomBytes(3).toString("hex")}`;
  await run("kubectl", "-n", namespace, "create", "job", `--from=cronjob/${name}`, job);
  const state = await until(`${job} ends`, 180, async () => {
    const kinds = await run("kubectl", "-n", namespace, "get", "job", job, "-o", "jsonpath={.status.conditions[*].type}");
    return /Complete|Failed/.exec(kinds)?.[0];
  });
  const text = await run("kubectl", "-n", namespace, "logs", `job/${job}`, "--all-containers", "--prefix");
  return { text, isWell: state === "Complete" };
}

export async function rollback(namespace: string): Promise<void> {
  await run("helm", "rollback", release, "-n", namespace, "--wait", "--timeout", "9m");
}

export async function helmTest(namespace: string): Promise<string> {
  return run("helm", "test", release, "-n", namespace, "--logs");
}

export async function uninstall(namespace: string): Promise<void> {
  await run("helm", "uninstall", release, "-n", namespace, "--wait");
}
