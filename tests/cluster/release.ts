/** A release of the chart on top of k8s/standalone, in its own namespace. */
import { randomBytes } from "node:crypto";
import { resolve } from "node:path";
import { run, until } from "./kubernetes.ts";

const root = resolve(import.meta.dirname, "../..");
const chart = resolve(root, "charts/patient-management");
const release = "pms";

/** The images on this cluster: CLUSTER_IMAGE_REGISTRY, and CLUSTER_IMAGE_TAG (`dev` by default). */
export const imageTag = process.env.CLUSTER_IMAGE_TAG ?? "dev";
const settings = process.env.CLUSTER_IMAGE_REGISTRY ? ["--set", `image.registry=${process.env.CLUSTER_IMAGE_REGISTRY}`] : [];

/** Creates a namespace that enforces Pod Security `restricted`. */
export async function createNamespace(): Promise<string> {
  const namespace = `pm-test-${randomBytes(3).toString("hex")}`;
  await run("kubectl", "create", "namespace", namespace);
  await run("kubectl", "label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted");
  return namespace;
}

/** Applies Postgres and Kafka. Does not wait for them, because the chart's migrations do. */
export async function applyStandalone(namespace: string): Promise<void> {
  await run("kubectl", "-n", namespace, "apply", "-k", resolve(root, "k8s/standalone"));
}

/** Installs or upgrades the release. Returns when all its pods are ready. */
export async function upgrade(namespace: string, ...values: string[]): Promise<void> {
  const args = ["upgrade", "--install", release, chart, "-n", namespace, "--set", `image.tag=${imageTag},doctor.enabled=true`, ...settings];
  await run("helm", ...args, ...values.flatMap((value) => ["--set", value]), "--wait", "--timeout", "9m");
}

/** Runs the CronJob of the doctor once. Returns what its containers say, and whether the Job succeeded. */
export async function askDoctor(namespace: string): Promise<{ text: string; isWell: boolean }> {
  const job = `doctor-${randomBytes(3).toString("hex")}`;
  await run("kubectl", "-n", namespace, "create", "job", "--from=cronjob/doctor", job);
  const state = await until("the doctor ends", 180, async () => {
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
