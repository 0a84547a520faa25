/**
 * The chart on a real cluster, from install to uninstall, in this order. It runs in a new namespace, which is deleted
 * at the end; CLUSTER_KEEP=1 keeps it after a failure. CLUSTER_IMAGE_TAG names the images, CLUSTER_IMAGE_TAG_NEXT those
 * to upgrade to.
 */
import { spawn, spawnSync } from "node:child_process";
import { resolve } from "node:path";
import { SERVICES } from "@pm/stack/names";
import { installPrometheus } from "@pm/stack/programs/prometheus";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startRehearsing } from "../rehearsals/prometheus.ts";
import { type Rehearsal, rehearse } from "../rehearsals/rehearsal.ts";
import { everywhere } from "../rehearsals/rehearsals.ts";
import { inNamespace } from "../rehearsals/rehearse.ts";
import { expectConsistent } from "./invariants.ts";
import { type Forward, forward, missing, run, secret, sql, until, workingSets } from "./kubernetes.ts";
import { startLoad } from "./load.ts";
import { applyStandalone, createNamespace, cronJobs, helmTest, imageTag, rollback, runCronJob, uninstall, upgrade } from "./release.ts";

const root = resolve(import.meta.dirname, "../..");
const reason = missing();
const meta = reason === undefined ? {} : { skipped: reason };
const nextTag = process.env.CLUSTER_IMAGE_TAG_NEXT;

const say = (line: string) => void process.stdout.write(`${line}\n`);
const seconds = (since: number) => `${((performance.now() - since) / 1_000).toFixed(1)} s`;

// biome-ignore lint/complexity/noExcessiveLinesPerFunction: a describe block
describe.skipIf(reason !== undefined)("a release", { meta }, () => {
  let namespace: string;
  let gateway: Forward;
  let admin: { email: string; password: string };
  let failed = false;
  const created: string[] = [];

  beforeAll(async () => {
    namespace = await createNamespace();
    say(`namespace ${namespace}, images ${imageTag}`);
  });
  afterAll(async () => {
    gateway?.close();
    if (!(failed && process.env.CLUSTER_KEEP)) await run("kubectl", "delete", "namespace", namespace, "--wait=false");
  });

  /** A test that later tests build on. */
  function step(name: string, act: () => Promise<void>): void {
    test(name, async ({ onTestFailed }) => {
      onTestFailed(() => {
        failed = true;
      });
      const started = performance.now();
      await act();
      say(`  ${seconds(started)}  ${name}`);
    });
  }

  step("installs over plain Postgres and Kafka where Pod Security is restricted, and answers the first 201", async () => {
    const started = performance.now();
    await applyStandalone(namespace);
    await upgrade(namespace);
    gateway = await forward(namespace, "svc/gateway", 4004);
    admin = { email: "admin@example.com", password: await secret(namespace, "patient-management", "admin-password") };
    const load = startLoad(gateway.url, admin);
    await until("the first 201", 60, async () => load.work.created.length > 0);
    say(`  ${seconds(started)}  from nothing to the first 201`);
    created.push(...(await load.stop()).created);
    const pods = await run(
      "kubectl",
      "-n",
      namespace,
      "get",
      "pods",
      "-o",
      "jsonpath={.items[*].status.containerStatuses[*].restartCount}",
    );
    expect(pods.split(" ").filter((count) => count !== "0")).toEqual([]);
    const locales = "select distinct datlocale from pg_database where datname in ('patient', 'billing', 'analytics', 'auth')";
    expect(await sql(namespace, "postgres", locales)).toEqual(["C.UTF-8"]);
  });

  step("passes helm test", async () => {
    const said = await helmTest(namespace);
    expect(said).toContain("the whole path works");
    expect(said).toContain('"drift": 0');
  });

  step("answers grpcurl, which asks billing by reflection what there is", async () => {
    const grpcurl = spawnSync("grpcurl", ["--version"]).status === 0;
    if (!grpcurl) {
      process.stderr.write("SKIPPED: grpcurl is not on the PATH.\n");
      return;
    }
    const billing = await forward(namespace, "svc/billing", 4001);
    const address = billing.url.replace("http://", "");
    expect(await run("grpcurl", "-plaintext", address, "list")).toContain("billing.v1.BillingService");
    expect(await run("grpcurl", "-plaintext", address, "describe", "billing.v1.BillingService")).toContain("rpc CreateBillingAccount");
    expect(await run("grpcurl", "-plaintext", address, "grpc.health.v1.Health/Check")).toContain("SERVING");
    const refused = run("grpcurl", "-plaintext", "-d", "{}", address, "billing.v1.BillingService/ListBillingAccounts");
    await expect(refused).rejects.toThrow(/Unauthenticated/);
    billing.close();
  });

  step("runs each check, and publishes the head of each audit chain", async () => {
    const services = ["analytics", "auth", "billing", "patient"];
    const names = (await cronJobs(namespace)).filter((name) => name !== "doctor");
    expect(names).toEqual(["audit-anchor", "checks"].flatMap((kind) => services.map((service) => `${kind}-${service}`)));
    const results = await Promise.all(names.map((name) => runCronJob(namespace, name)));
    expect(names.filter((_, index) => !results[index]?.isWell)).toEqual([]);
    const said = results.map(({ text }) => text).join("");
    expect(said.match(/"intact":true/g)).toHaveLength(services.length);
    expect(said).toContain('"holds":true');
    for (const service of services) expect(said).toContain(`{"service":"${service}","number":`);
  });

  step("is well in the eyes of the doctor, who notices that a service is away", async () => {
    const well = await runCronJob(namespace, "doctor");
    expect(well.text).not.toMatch(/ (wrong|unseen) /);
    for (const part of ["patient", "fhir", "gateway", "certificate of Kafka", "Kafka certificate of billing", "certificate of Postgres"])
      expect(well.text).toMatch(new RegExp(` well {4}${part}: `));
    expect(well.text).toMatch(/ well {4}database of billing: The ledger is proven: /);
    expect(well.isWell).toBe(true);
    await run("kubectl", "-n", namespace, "scale", "deployment", "billing", "--replicas=0");
    await run("kubectl", "-n", namespace, "wait", "--for=delete", "pod", "-l", "app.kubernetes.io/name=billing", "--timeout=60s");
    const sick = await runCronJob(namespace, "doctor");
    expect(sick.text).toMatch(/ wrong {3}billing: No pod is ready: /);
    expect(sick.isWell).toBe(false);
    await run("kubectl", "-n", namespace, "scale", "deployment", "billing", "--replicas=1");
    await run("kubectl", "-n", namespace, "rollout", "status", "deployment/billing", "--timeout=120s");
  });

  step("rehearses runbooks: each fault makes its alert fire, and its end makes it resolve", async () => {
    const missing = await installPrometheus(say).then(
      () => undefined,
      (error: Error) => error.message,
    );
    if (missing !== undefined) {
      process.stderr.write(`SKIPPED: ${missing}\n`);
      return;
    }
    const { place, targets, leave } = await inNamespace(namespace);
    const prometheus = await startRehearsing(targets, say);
    try {
      for (const [name, rehearsal] of Object.entries<Rehearsal>(everywhere))
        await rehearse(name, rehearsal, { place, prometheus, say, signal: new AbortController().signal });
    } finally {
      await prometheus.stop();
      await leave();
    }
    await expectConsistent(namespace, gateway.url, admin, created);
  });

  step("passes the end-to-end suite through the gateway", async () => {
    const child = spawn("npx", ["vitest", "run", "--config", "tests/cluster/e2e.config.mts"], {
      cwd: root,
      env: { ...process.env, CLUSTER_NAMESPACE: namespace },
      stdio: ["ignore", "inherit", "inherit"],
    });
    expect(await new Promise((resolve) => child.once("exit", resolve))).toBe(0);
  });

  step("loses nothing that it answered when each pod is killed in turn under load", async () => {
    const targets = [...SERVICES, "gateway", "kafka", "postgres"];
    for (const target of targets) {
      const load = startLoad(gateway.url, admin);
      const before = load.work.created.length;
      await until("load runs", 60, async () => load.work.created.length > before + 10);
      const pods = ["-n", namespace, "get", "pods", "-l", `app.kubernetes.io/name=${target}`, "-o", "jsonpath={.items[*].metadata.uid}"];
      const killed = await run("kubectl", ...pods);
      const started = performance.now();
      await run("kubectl", "-n", namespace, "delete", "pod", "-l", `app.kubernetes.io/name=${target}`, "--grace-period=0", "--force");
      await until(`another pod of ${target} is ready`, 180, async () => {
        const state = `jsonpath={range .items[*]}{.metadata.uid} {.status.conditions[?(@.type=="Ready")].status}{"\\n"}{end}`;
        const lines = (await run("kubectl", ...pods.slice(0, -1), state)).trim().split("\n");
        return lines.some((line) => line.endsWith("True") && !killed.includes(line.split(" ")[0] ?? ""));
      });
      const back = seconds(started);
      // Whichever pod was killed, patients can be created again.
      const seen = load.work.created.length;
      await until("patients are created again", 60, async () => load.work.created.length > seen + 5);
      const work = await load.stop();
      created.push(...work.created);
      say(`    ${target} killed: back in ${back}, ${work.answered} answered, ${work.failed.length} failed meanwhile`);
    }
    await expectConsistent(namespace, gateway.url, admin, created);
  });

  step("takes up rotated secrets without a restart", async () => {
    const uid = () =>
      run("kubectl", "-n", namespace, "get", "pods", "-l", "app.kubernetes.io/name=patient", "-o", "jsonpath={.items[*].metadata.uid}");
    const before = await uid();
    await run("kubectl", "-n", namespace, "delete", "secret", "postgres-patient", "kafka-user-patient");
    await run("kubectl", "-n", namespace, "delete", "job", "secrets", "--ignore-not-found");
    await applyStandalone(namespace);
    const password = await until("a new password", 60, async () => secret(namespace, "postgres-patient", "password"));
    // The kubelet updates mounted Secrets every minute or two: first in Postgres' pod, then in the service's.
    await until("Postgres' pod has the new password", 180, async () => {
      const mounted = await run("kubectl", "-n", namespace, "exec", "postgres-0", "--", "cat", "/etc/postgresql/passwords/patient");
      return mounted === password;
    });
    await until("the service's pod has the new password", 180, async () => {
      const script = "process.stdout.write(require('fs').readFileSync('/etc/patient-management/database/password','utf8'))";
      return (await run("kubectl", "-n", namespace, "exec", "deploy/patient", "--", "node", "-e", script)) === password;
    });
    await run("kubectl", "-n", namespace, "exec", "postgres-0", "--", "bash", "/docker-entrypoint-initdb.d/roles.sh");
    await sql(namespace, "postgres", "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'patient'");
    const load = startLoad(gateway.url, admin);
    await until("patients are created with the new password", 60, async () => load.work.created.length > 10);
    created.push(...(await load.stop()).created);
    expect(await uid()).toBe(before);
    await expectConsistent(namespace, gateway.url, admin, created);
  });

  step("scales patient to three", async () => {
    await upgrade(namespace, "services.patient.replicas=3");
    const load = startLoad(gateway.url, admin);
    await until("each of the three is asked", 90, async () => {
      const logs = await run("kubectl", "-n", namespace, "logs", "-l", "app.kubernetes.io/name=patient", "--prefix", "--tail=40");
      return new Set([...logs.matchAll(/^\[(\S+)\].*createPatient/gm)].map(([, pod]) => pod)).size === 3;
    });
    const work = await load.stop();
    created.push(...work.created);
    expect(work.failed).toEqual([]);
    const sets = await workingSets(namespace);
    for (const [pod, mebibytes] of [...sets].sort()) say(`    ${String(mebibytes).padStart(5)} MiB  ${pod}`);
    say(`    ${String([...sets.values()].reduce((sum, each) => sum + each, 0)).padStart(5)} MiB  together`);
  });

  step("upgrades to another image under load without one failed request", async () => {
    if (!nextTag) process.stderr.write("CLUSTER_IMAGE_TAG_NEXT is not set: the same image is rolled out with another setting.\n");
    const load = startLoad(gateway.url, admin);
    await until("load runs", 60, async () => load.work.created.length > 5);
    await upgrade(namespace, "services.patient.replicas=3", nextTag ? `image.tag=${nextTag}` : "logLevel=warn");
    const work = await load.stop();
    created.push(...work.created);
    say(`    ${work.answered} answered while every service was replaced`);
    expect(work.failed).toEqual([]);
    // Look at Deployments, because old pods may still be terminating.
    const images = await run(
      "kubectl",
      ...["-n", namespace, "get", "deployments", "-o", "jsonpath={.items[*].spec.template.spec.containers[*].image}"],
    );
    const old = images.split(" ").filter((image) => image.endsWith(`:${imageTag}`));
    if (nextTag) expect(old).toEqual([]);
  });

  step("goes back to the release before under load without one failed request, and keeps its secrets", async () => {
    const before = await run("kubectl", "-n", namespace, "get", "secret", "patient-management", "-o", "jsonpath={.data}");
    const load = startLoad(gateway.url, admin);
    await until("load runs", 60, async () => load.work.created.length > 5);
    await rollback(namespace);
    const work = await load.stop();
    created.push(...work.created);
    expect(work.failed).toEqual([]);
    expect(await run("kubectl", "-n", namespace, "get", "secret", "patient-management", "-o", "jsonpath={.data}")).toBe(before);
    await expectConsistent(namespace, gateway.url, admin, created);
  });

  step("replaces the gateway under load without cutting a request off", async () => {
    // A port-forward ends with its pod, so send the requests from inside the cluster, from a pod that has Node.
    const script = `
      let ok = 0, bad = [];
      const end = Date.now() + 45_000;
      const one = async () => { while (Date.now() < end) { try { const r = await fetch("http://gateway:4004/.well-known/jwks.json"); await r.text(); if (r.status === 200) ok++; else bad.push(r.status); } catch (e) { bad.push(String(e.cause ?? e)); } await new Promise((f) => setTimeout(f, 20)); } };
      await Promise.all([one(), one(), one(), one()]);
      console.log(JSON.stringify({ ok, bad: bad.slice(0, 5), failed: bad.length }));`;
    const asking = run("kubectl", "-n", namespace, "exec", "deploy/patient", "--", "node", "--input-type=module", "-e", script);
    await run("kubectl", "-n", namespace, "rollout", "restart", "deployment/gateway");
    await run("kubectl", "-n", namespace, "rollout", "status", "deployment/gateway", "--timeout=180s");
    const result = JSON.parse(await asking) as { ok: number; failed: number };
    say(`    ${result.ok} answered`);
    expect(result).toMatchObject({ failed: 0 });
    expect(result.ok).toBeGreaterThan(500);
  });

  step("leaves nothing behind but the kept Secret when it is uninstalled", async () => {
    await uninstall(namespace);
    const kinds = (await run("kubectl", "api-resources", "--namespaced", "--verbs=list", "-o", "name")).trim().replaceAll("\n", ",");
    const left = async () =>
      (await run("kubectl", "-n", namespace, "get", kinds, "-l", "app.kubernetes.io/instance=pms", "-o", "name")).trim().split("\n");
    await until("only the Secret is left", 90, async () => (await left()).join() === "secret/patient-management");
    const volumes = await run("kubectl", "-n", namespace, "get", "pvc", "-o", "name");
    const kept = ["audit-heads", "data-kafka-0", "data-postgres-0"].map((name) => `persistentvolumeclaim/${name}`);
    expect(volumes.trim().split("\n").sort()).toEqual(kept);
  });

  step("finds its data and its secrets again when it is installed again", async () => {
    await upgrade(namespace);
    const load = startLoad(gateway.url, admin);
    await until("patients are created again, with the old password", 60, async () => load.work.created.length > 5);
    created.push(...(await load.stop()).created);
    await expectConsistent(namespace, gateway.url, admin, created);
  });
});
