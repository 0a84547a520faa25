import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { type Gateway, startGateway, template } from "./gateway.ts";

let gateway: Gateway;
afterEach(() => gateway.stop());

test("Kubernetes and Prometheus get their answers on a port of their own, and nothing else is there", async () => {
  gateway = await startGateway();
  const get = (path: string, method = "GET") => fetch(`${gateway.internalUrl}${path}`, { method });
  expect((await get("/health/live")).status).toBe(200);
  expect((await get("/health/ready")).status).toBe(200);
  const metrics = await get("/metrics");
  expect(metrics.headers.get("content-type")).toMatch(/^text\/plain/);
  expect(await metrics.text()).toContain('envoy_cluster_membership_healthy{envoy_cluster_name="patient"} 1');
  for (const path of ["/", "/stats", "/config_dump", "/clusters", "/patients", "/metrics/x"]) expect((await get(path)).status).toBe(404);
  for (const path of ["/quitquitquit", "/healthcheck/fail"]) expect((await get(path, "POST")).status).toBe(404);
});

test("what has an objective is counted by its endpoint, also while nobody answers", async () => {
  gateway = await startGateway();
  const id = "0198c0de-0000-7000-8000-00000000abcd";
  const send = (method: string, path: string) => fetch(`${gateway.url}${path}`, { method, headers: gateway.signedIn });
  gateway.upstreams.patient.handler = ({ url }, answer) => {
    if (!url?.includes("broken")) return false;
    answer.writeHead(503).end();
    return true;
  };
  for (const [method, path] of [
    ["GET", `/patients/${id}`],
    ["GET", `/api/patients/${id}?broken`],
    ["POST", "/patients"],
    ["POST", "/api/patients?broken"],
    ["POST", "/auth/login"],
    ["GET", "/patients"],
    ["GET", `/patients/${id}/history`],
    ["POST", "/patients:import"],
  ] as const)
    await (await send(method, path)).text();
  const text = await (await fetch(`${gateway.internalUrl}/metrics`)).text();
  const counted = (endpoint: string) =>
    [...text.matchAll(/^envoy_vhost_vcluster_upstream_rq_xx\{envoy_response_code_class="(\d)",envoy_virtual_cluster="(\w+)",.*\} (\d+)$/gm)]
      .filter(([, , name]) => name === endpoint)
      .map(([, kind, , count]) => `${count} of ${kind}xx`);
  expect(counted("patients_get")).toEqual(["1 of 2xx", "1 of 5xx"]);
  expect(counted("patients_create")).toEqual(["1 of 2xx", "1 of 5xx"]);
  expect(counted("log_in")).toEqual(["1 of 2xx"]);
});

test("GET /drain sends clients elsewhere, waits, and drops nothing meanwhile", async () => {
  gateway = await startGateway({ variables: { DRAIN_SECONDS: "2" } });
  let finish = () => {};
  gateway.upstreams.patient.handler = (request, answer) => {
    if (request.url !== "/patients/slow") return false;
    finish = () => answer.end("finished");
    return true;
  };
  const slow = fetch(`${gateway.url}/patients/slow`, { headers: gateway.signedIn });
  const before = await fetch(`${gateway.url}/patients`, { headers: gateway.signedIn });
  expect(before.headers.get("connection")).not.toBe("close");

  const started = performance.now();
  const drained = fetch(`${gateway.internalUrl}/drain`);
  await expect.poll(async () => (await fetch(`${gateway.internalUrl}/health/ready`)).status).toBe(503);
  expect((await fetch(`${gateway.internalUrl}/health/live`)).status).toBe(200);
  const during = await fetch(`${gateway.url}/patients`, { headers: gateway.signedIn });
  expect({ status: during.status, connection: during.headers.get("connection") }).toEqual({ status: 200, connection: "close" });
  finish();
  expect(await (await slow).text()).toBe("finished");
  expect(await (await drained).text()).toBe("drained\n");
  expect(performance.now() - started).toBeGreaterThanOrEqual(2_000);
});

test("Envoy takes the template without a warning, and every placeholder is described", async () => {
  gateway = await startGateway();
  expect(gateway.log.filter((line) => !line.startsWith("{"))).toEqual([]);
  const text = readFileSync(template, "utf8");
  const used = new Set([...text.matchAll(/\$\{([A-Z_]+)\}/g)].map(([, name]) => name));
  const reference = readFileSync(join(template, "../../../docs/gateway.md"), "utf8");
  const described = new Set(
    [...reference.matchAll(/^\|(?: `[A-Z_]+`,?)+/gm)].flatMap(([cell]) => [...cell.matchAll(/`([A-Z_]+)`/g)].map(([, name]) => name)),
  );
  expect([...described].sort()).toEqual([...used].sort());
  // Helm reads it as a file and not as a template, but readers should not have to know that.
  expect(text).not.toContain("{".repeat(2));
});
