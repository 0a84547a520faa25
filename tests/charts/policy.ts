/** What every workload must have, in any render: limits, probes, a security context, a NetworkPolicy. */
import type { Manifest } from "./render.ts";

type Container = {
  name: string;
  image: string;
  env?: { name: string; value?: string }[];
  resources?: { requests?: Record<string, string>; limits?: Record<string, string> };
  securityContext?: Record<string, unknown> & { capabilities?: { drop?: string[]; add?: string[] } };
  startupProbe?: object;
  livenessProbe?: object;
  readinessProbe?: object;
  lifecycle?: { preStop?: object };
};
type PodSpec = {
  containers: Container[];
  initContainers?: Container[];
  automountServiceAccountToken?: boolean;
  hostNetwork?: boolean;
  hostPID?: boolean;
  securityContext?: { runAsNonRoot?: boolean; runAsUser?: number; runAsGroup?: number; seccompProfile?: { type?: string } };
  volumes?: Record<string, unknown>[];
};
type Metadata = { labels?: Record<string, string>; annotations?: Record<string, string> };
type Pod = { owner: string; kind: string; spec: PodSpec } & Required<Metadata>;

/** Images that are not pinned by their digest: a tag can be given to another image later. */
export function unpinned(manifests: Manifest[]): string[] {
  const containers = podsOf(manifests).flatMap(({ spec }) => [...spec.containers, ...(spec.initContainers ?? [])]);
  return containers.map(({ image }) => image).filter((image) => !/@sha256:[0-9a-f]{64}$/.test(image));
}

/** The pods of the workloads in the manifests. */
export function podsOf(manifests: Manifest[]): Pod[] {
  return manifests.flatMap((manifest) => {
    const { kind } = manifest;
    // A CronJob has the template of a Job in it.
    const { spec: outer } = (manifest.spec?.jobTemplate ?? manifest) as Pick<Manifest, "spec">;
    const { metadata, spec } = ((kind === "Pod" ? manifest : outer?.template) ?? {}) as { metadata?: Metadata; spec?: PodSpec };
    if (!spec?.containers) return [];
    return [{ owner: `${kind} ${manifest.metadata.name}`, kind, labels: {}, annotations: {}, ...metadata, spec }];
  });
}

/** Everything that is wrong with the manifests, one sentence each. Empty if nothing is. */
export function violations(manifests: Manifest[]): string[] {
  const pods = podsOf(manifests);
  return [
    ...pods.flatMap((pod) => [...podViolations(pod), ...policyViolations(pod, manifests)]),
    ...manifests.flatMap(objectViolations),
    ...manifests.filter(isServing).flatMap((manifest) => {
      const name = manifest.metadata.labels?.["app.kubernetes.io/name"];
      const budget = manifests.some(
        (other) =>
          other.kind === "PodDisruptionBudget" &&
          selects(other.spec?.selector as { matchLabels?: Record<string, string> }, manifest.metadata.labels ?? {}),
      );
      return budget ? [] : [`Deployment ${name} has no PodDisruptionBudget`];
    }),
  ];
}

const isServing = (manifest: Manifest) => manifest.kind === "Deployment";

function podViolations({ owner, kind, spec }: Pod): string[] {
  const wrong: string[] = [];
  const check = (holds: boolean, what: string) => {
    if (!holds) wrong.push(`${owner}: ${what}`);
  };
  check(spec.securityContext?.runAsNonRoot === true, "runAsNonRoot is not true");
  // The node has no users above 10000, so whoever breaks out of a container is nobody there.
  check((spec.securityContext?.runAsUser ?? 0) > 10_000, "runAsUser is not a number above 10000");
  check((spec.securityContext?.runAsGroup ?? 0) > 10_000, "runAsGroup is not a number above 10000");
  check(spec.securityContext?.seccompProfile?.type === "RuntimeDefault", "seccompProfile is not RuntimeDefault");
  check(!spec.hostNetwork && !spec.hostPID, "shares the node's network or processes");
  check(!spec.volumes?.some((volume) => "hostPath" in volume), "mounts a path of the node");
  const needsToken = owner === "Job secrets";
  check(spec.automountServiceAccountToken === needsToken, needsToken ? "has no token" : "mounts a service account's token");
  for (const container of [...spec.containers, ...(spec.initContainers ?? [])]) {
    const { name, image, resources, securityContext: security } = container;
    check(/:[^:/]+$/.test(image) && !image.endsWith(":latest"), `${name}: the image ${image} has no fixed tag`);
    check(Boolean(resources?.requests?.cpu && resources.requests.memory), `${name}: requests are missing`);
    check(Boolean(resources?.limits?.memory), `${name}: the memory limit is missing`);
    check(security?.allowPrivilegeEscalation === false, `${name}: privilege escalation is allowed`);
    check(security?.readOnlyRootFilesystem === true, `${name}: the root file system can be written`);
    check(security?.capabilities?.drop?.[0] === "ALL" && !security.capabilities.add, `${name}: has capabilities`);
    check(security?.privileged !== true, `${name}: is privileged`);
    const secret = container.env?.find((entry) => /PASSWORD$|SECRET$|_KEY$|TOKEN$/.test(entry.name) && entry.value !== undefined);
    check(secret === undefined, `${name}: ${secret?.name} is a secret as a literal`);
    if (kind === "Deployment" || kind === "StatefulSet") {
      check(container.startupProbe !== undefined, `${name}: the startup probe is missing`);
      check(container.livenessProbe !== undefined, `${name}: the liveness probe is missing`);
      check(container.readinessProbe !== undefined, `${name}: the readiness probe is missing`);
    }
    if (kind === "Deployment") check(container.lifecycle?.preStop !== undefined, `${name}: preStop is missing`);
  }
  return wrong;
}

/**
 * Policies select each pod for both directions, and one of them is its own, because a default deny names no callers.
 */
function policyViolations({ owner, labels }: Pod, manifests: Manifest[]): string[] {
  const policies = manifests.filter(
    (manifest) =>
      manifest.kind === "NetworkPolicy" && selects(manifest.spec?.podSelector as { matchLabels?: Record<string, string> }, labels),
  );
  const own = policies.filter((policy) => !policy.metadata.name.endsWith("default-deny"));
  const directions = new Set(own.flatMap((policy) => policy.spec?.policyTypes as string[]));
  return ["Ingress", "Egress"]
    .filter((direction) => !directions.has(direction))
    .map((direction) => `${owner}: no NetworkPolicy for ${direction}`);
}

function selects(selector: { matchLabels?: Record<string, string> } | undefined, labels: Record<string, string>): boolean {
  return Object.entries(selector?.matchLabels ?? {}).every(([key, value]) => labels[key] === value);
}

function objectViolations(manifest: Manifest): string[] {
  const { kind, metadata } = manifest;
  if (kind === "ServiceAccount" && manifest.automountServiceAccountToken !== false)
    return [`ServiceAccount ${metadata.name} mounts its token`];
  if (kind === "ConfigMap") {
    const secret = Object.entries(manifest.data ?? {}).find(([key]) => /(PASSWORD|SECRET|_KEY|TOKEN)$/.test(key));
    return secret ? [`ConfigMap ${metadata.name} holds ${secret[0]}`] : [];
  }
  if (kind === "Secret" && metadata.annotations?.["helm.sh/resource-policy"] !== "keep") return [`Secret ${metadata.name} is not kept`];
  return [];
}
