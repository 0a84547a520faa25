import { expect, test } from "vitest";
import { violations } from "./policy.ts";
import type { Manifest } from "./render.ts";

/** A Deployment with its NetworkPolicy and PodDisruptionBudget that breaks no rule. */
function good(): Manifest[] {
  const labels = { "app.kubernetes.io/name": "x" };
  const probe = { httpGet: { path: "/health/live", port: "http" } };
  const container = {
    name: "x",
    image: "x:1",
    resources: { requests: { cpu: "1m", memory: "1Mi" }, limits: { memory: "1Mi" } },
    securityContext: { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ["ALL"] } },
    startupProbe: probe,
    livenessProbe: probe,
    readinessProbe: probe,
    lifecycle: { preStop: { sleep: { seconds: 1 } } },
  };
  const spec = {
    automountServiceAccountToken: false,
    securityContext: { runAsNonRoot: true, runAsUser: 10_001, runAsGroup: 10_001, seccompProfile: { type: "RuntimeDefault" } },
    containers: [container],
  };
  return [
    { apiVersion: "apps/v1", kind: "Deployment", metadata: { name: "x", labels }, spec: { template: { metadata: { labels }, spec } } },
    {
      apiVersion: "networking.k8s.io/v1",
      kind: "NetworkPolicy",
      metadata: { name: "x" },
      spec: { podSelector: { matchLabels: labels }, policyTypes: ["Ingress", "Egress"] },
    },
    { apiVersion: "policy/v1", kind: "PodDisruptionBudget", metadata: { name: "x" }, spec: { selector: { matchLabels: labels } } },
  ];
}

/** The good manifests with one thing replaced in their JSON. */
function but(from: string, to: string): Manifest[] {
  const json = JSON.stringify(good());
  expect(json).toContain(from);
  return JSON.parse(json.replace(from, to)) as Manifest[];
}

test("a workload that has everything breaks no rule", () => {
  expect(violations(good())).toEqual([]);
});

test.each([
  ["latest", '"image":"x:1"', '"image":"x:latest"', "has no fixed tag"],
  ["no tag", '"image":"x:1"', '"image":"registry:5000/x"', "has no fixed tag"],
  ["no limit", '"limits":{"memory":"1Mi"}', '"limits":{}', "the memory limit is missing"],
  ["no liveness probe", '"livenessProbe"', '"otherProbe"', "the liveness probe is missing"],
  ["root", '"runAsUser":10001', '"runAsUser":0', "runAsUser is not a number above 10000"],
  ["a user that the node may have", '"runAsUser":10001', '"runAsUser":1000', "runAsUser is not a number above 10000"],
  ["the image's group", ',"runAsGroup":10001', "", "runAsGroup is not a number above 10000"],
  ["capabilities", '"drop":["ALL"]', '"drop":["ALL"],"add":["NET_ADMIN"]', "has capabilities"],
  ["writable", '"readOnlyRootFilesystem":true', '"readOnlyRootFilesystem":false', "the root file system can be written"],
  ["a token", '"automountServiceAccountToken":false', '"automountServiceAccountToken":true', "mounts a service account's token"],
  ["a secret in the environment", '"name":"x","image"', '"env":[{"name":"DB_PASSWORD","value":"x"}],"name":"x","image"', "as a literal"],
  ["a policy of one direction", '["Ingress","Egress"]', '["Ingress"]', "no NetworkPolicy for Egress"],
  ["no budget", '"kind":"PodDisruptionBudget"', '"kind":"Other"', "has no PodDisruptionBudget"],
])("%s is found", (_, from, to, sentence) => {
  expect(violations(but(from, to)).join("\n")).toContain(sentence);
});
