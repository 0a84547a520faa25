/**
 * Renders the chart and the manifests of k8s/, and checks them by golden files, schemas and the policy of policy.ts.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { describe, expect, test } from "vitest";
import { podsOf, unpinned, violations } from "./policy.ts";
import { renderReadme } from "./readme.ts";
import { chart, kubernetesVersion, type Manifest, parse, programs, renderChart, renderKustomization, root, run, whyNot } from "./render.ts";
import { schemaLocations } from "./schemas.ts";

const golden = join(import.meta.dirname, "golden");

const renders = {
  default: [],
  production: [join(chart, "values-production.yaml")],
  aws: [join(chart, "values-production.yaml"), join(import.meta.dirname, "values/aws.yaml")],
  everything: [join(import.meta.dirname, "values/everything.yaml")],
};
const kustomizations = [
  "standalone",
  "strimzi",
  "strimzi/monitoring",
  "postgres",
  "postgres-backup",
  "kind/operators",
  "observability",
  "rds",
  "msk",
];

/** Compares with a golden file, or writes it if UPDATE is set. */
function expectGolden(file: string, text: string): void {
  if (process.env.UPDATE) {
    mkdirSync(golden, { recursive: true });
    writeFileSync(file, text);
  }
  expect(text).toBe(readFileSync(file, "utf8"));
}

/** Leaves out what is new in each render (secrets) and what has its own tests (the gateway, dashboards). */
function stable(yaml: string): string {
  return yaml
    .replace(/^( {2}[a-z-]+: )"[A-Za-z0-9+/]+={0,2}"$/gm, '$1"<generated>"')
    .replace(/^ {2}envoy\.yaml: \|-\n(?: {4}.*\n|\n)*/gm, "  envoy.yaml: <services/gateway/envoy.yaml>\n")
    .replace(/^ {2}([a-z]+\.json): \|-\n(?: {4}.*\n)*/gm, "  $1: <files/dashboards/$1>\n")
    .replace(/^( +checksum\/config: )[0-9a-f]{64}$/gm, "$1<checksum>");
}

test("the README of the chart lists its values", () => {
  const read = (file: string) => readFileSync(join(chart, file), "utf8");
  expectGolden(join(chart, "README.md"), renderReadme(read("Chart.yaml"), read("values.yaml")));
});

/** The options of a suite that cannot run here for the given reason. */
const options = (skipped: string | undefined) => ({ timeout: 120_000, meta: { ...(skipped !== undefined && { skipped }) } });

// biome-ignore lint/complexity/noExcessiveLinesPerFunction: a describe block
describe.skipIf(whyNot("helm"))("the chart", options(whyNot("helm")), () => {
  test("passes helm lint --strict", () => {
    for (const values of Object.values(renders)) {
      run(String(programs.helm), [
        "lint",
        "--strict",
        "--kube-version",
        kubernetesVersion,
        chart,
        ...values.flatMap((file) => ["--values", file]),
      ]);
    }
  });

  test.each(Object.entries(renders))("renders %s as the golden file has it", (name, values) => {
    expectGolden(join(golden, `${name}.yaml`), stable(renderChart(values)));
  });

  test("the rules of a release ask for its own series", () => {
    const rules = renderChart(renders.everything)
      .split(/^---$/m)
      .find((manifest) => manifest.includes("kind: PrometheusRule"));
    const selectors = [...(rules ?? "").matchAll(/\w(\{[^{}]*\})/g)].map(([, selector = ""]) => selector);
    expect(selectors.length).toBeGreaterThan(100);
    expect(selectors.filter((selector) => !selector.startsWith('{namespace="patients",'))).toEqual([]);
  });

  test("every check of a service is a command of it", () => {
    const jobs = parse(renderChart([])).filter(({ kind }) => kind === "CronJob");
    type Job = { jobTemplate: { spec: { template: { spec: { containers: { image: string; args: string[] }[] } } } } };
    const containers = jobs.flatMap(({ spec }) => (spec as Job).jobTemplate.spec.template.spec.containers);
    const files = containers.map(({ image, args: [file = ""] }) => `services/${/\/(\w+):/.exec(image)?.[1]}/${file}`);
    expect(files.length).toBe(5);
    expect(files.filter((file) => !existsSync(join(root, file)))).toEqual([]);
  });

  test("a service expects the checks that somebody runs, and none where they are switched off", () => {
    const expected = (...settings: string[]) => [...renderChart([], settings).matchAll(/EXPECTED_CHECKS: (.*)/g)].map(([, names]) => names);
    expect(expected()).toEqual(["audit_chain", "audit_chain", "audit_chain,ledger", "audit_chain"]);
    expect(expected("services.billing.checks={verify-audit}")).toEqual(Array(4).fill("audit_chain"));
    expect(expected("checks.enabled=false")).toEqual(Array(4).fill("none"));
  });

  test.each(Object.entries(renders))("breaks no rule of the house when rendered %s", (_, values) => {
    expect(violations(parse(renderChart(values)))).toEqual([]);
  });

  test.each([
    ["a misspelt key", "gateway.replica=2", "replica"],
    ["a misspelt key of a service", "services.patient.replics=2", "replics"],
    ["the tag latest", "image.tag=latest", "tag"],
    ["a secret as an environment variable", "services.patient.env.CLIENT_SECRET=x", "CLIENT_SECRET"],
    ["the mail server's password in the environment", "services.auth.env.MAIL_URL=smtp://me:secret@host", "MAIL_URL"],
    ["an offset in place of the clinic's time zone", "clinic.timeZone=+02:00", "timeZone"],
    ["a port that is none", "services.patient.port=99999", "port"],
    ["a word that a setting does not have", "services.auth.settings.signup=sometimes", "signup"],
    ["a date of birth that is a season", "services.patient.settings.dateOfBirthPrecision=season", "dateOfBirthPrecision"],
    ["a setting of another service", "services.patient.settings.signup=off", "signup"],
    ["keys that sign before the gateway has them", "services.auth.settings.keyPublishSeconds=60", "jwksCacheSeconds"],
  ])("refuses %s", (_, setting, word) => {
    expect(() => renderChart([], [setting])).toThrow(word);
  });

  test("gives every value of the services' template, and it stays YAML", () => {
    const config = parse(renderChart([])).find(({ kind, metadata }) => kind === "ConfigMap" && metadata.name === "gateway");
    const envoy = config?.data?.["envoy.yaml"] ?? "";
    expect(envoy).not.toMatch(/\$\{/);
    expect(envoy).toContain("patient-headless.patients.svc");
    expect(parse(envoy)).toHaveLength(1);
  });

  test("has a value for every variable that a service reads", () => {
    const readBy = (file: string) =>
      [...readFileSync(join(root, file), "utf8").matchAll(/\b([A-Z]+(?:_[A-Z]+)*): /g)].map(([, name = ""]) => name);
    const configs = parse(renderChart(renders.everything)).filter(({ kind }) => kind === "ConfigMap");
    const given = (service: string) =>
      Object.keys(configs.find(({ metadata }) => metadata.name === `blue-${service}`)?.data ?? {}).map((name) =>
        name.replace(/_FILE$/, ""),
      );
    const services = ["patient", "billing", "analytics", "auth", "fhir"];
    for (const service of services) {
      expect(
        readBy(`services/${service}/src/config.ts`).filter((name) => !given(service).includes(name)),
        service,
      ).toEqual([]);
    }
    // In a pod, a service listens on every address. The variables of migrations are in their Jobs, and what Kubernetes
    // knows of a pod is in its Deployment.
    const common = readBy("packages/kit/src/config.ts").map((name) => name.replace(/_FILE$/, ""));
    expect(common.length).toBeGreaterThan(10);
    expect(common.filter((name) => !services.some((service) => given(service).includes(name)))).toEqual([
      "OTEL_RESOURCE_ATTRIBUTES",
      "HOST",
    ]);
  });

  test("compares what analytics counted after the path was walked: by analytics' own command, settings and rights, from a pod that is no analytics", () => {
    const manifests = parse(renderChart(renders.everything));
    const named = (kind: string, name: string) => manifests.find((each) => each.kind === kind && each.metadata.name === `blue-${name}`);
    const weight = (pod: Manifest | undefined) => Number(pod?.metadata.annotations?.["helm.sh/hook-weight"] ?? 0);
    const [path, check, analytics] = [named("Pod", "test-path"), named("Pod", "test-consistency"), named("Deployment", "analytics")];
    expect(check?.metadata.annotations).toMatchObject({ "helm.sh/hook": "test" });
    expect(weight(check)).toBeGreaterThan(weight(path));

    type Spec = { containers: Record<string, unknown>[]; volumes: { name: string }[]; serviceAccountName: string };
    const spec = check?.spec as unknown as Spec;
    const own = (analytics?.spec?.template as { spec: Spec } | undefined)?.spec;
    const settings = ({ image, envFrom, volumeMounts }: Record<string, unknown>) => ({ image, envFrom, volumeMounts });
    expect(spec.containers[0]?.args).toEqual(["src/commands/check-consistency.ts"]);
    expect(settings(spec.containers[0] ?? {})).toEqual(settings(own?.containers[0] ?? {}));
    expect([spec.volumes, spec.serviceAccountName]).toEqual([own?.volumes, own?.serviceAccountName]);

    // With the labels of analytics, it would get requests. Services, Postgres and Kafka admit it by labels of its own.
    const labels = check?.metadata.labels ?? {};
    type Policy = {
      podSelector: Selector;
      ingress?: { from?: { podSelector: Selector }[] }[];
      egress?: { to?: { podSelector: Selector }[] }[];
    };
    type Selector = { matchLabels: Record<string, string> };
    const policies = manifests.filter(({ kind }) => kind === "NetworkPolicy").map(({ spec }) => spec as unknown as Policy);
    const selects = ({ matchLabels }: Selector, of: Record<string, string>) =>
      Object.entries(matchLabels).every(([key, value]) => of[key] === value);
    expect(labels).toMatchObject({ "patient-management/uses-postgres": "true", "patient-management/uses-kafka": "true" });
    const service = named("Service", "analytics")?.spec as { selector: Record<string, string> };
    expect(selects({ matchLabels: service.selector }, labels)).toBe(false);
    for (const callee of ["patient", "billing", "auth"]) {
      const at = { "app.kubernetes.io/name": callee, "app.kubernetes.io/instance": "pms" };
      const lets = policies.filter(({ podSelector }) => selects(podSelector, at)).flatMap(({ ingress = [] }) => ingress);
      expect(
        lets.flatMap(({ from = [] }) => from).some(({ podSelector }) => podSelector && selects(podSelector, labels)),
        callee,
      ).toBe(true);
      const goes = policies.filter(({ podSelector }) => selects(podSelector, labels)).flatMap(({ egress = [] }) => egress);
      expect(
        goes.flatMap(({ to = [] }) => to).some(({ podSelector }) => podSelector && selects(podSelector, at)),
        callee,
      ).toBe(true);
    }
  });

  test("gives the doctor certificates and, for each database, the password of a role that only reads; no key and no service's password", () => {
    const doctor = parse(renderChart([], ["doctor.enabled=true"])).find(
      ({ kind, metadata }) => kind === "CronJob" && metadata.name.endsWith("doctor"),
    );
    expect(doctor?.spec).toMatchObject({ suspend: true });
    type Volume = { projected?: { sources: { secret: { name: string; items: { key: string }[] } }[] } };
    const job = doctor?.spec?.jobTemplate as { spec: { template: { spec: { volumes: Volume[] } } } } | undefined;
    const mounted = job?.spec.template.spec.volumes.flatMap(({ projected }) =>
      (projected?.sources ?? []).flatMap(({ secret: { name, items } }) => items.map(({ key }) => `${name}/${key}`)),
    );
    const services = ["analytics", "auth", "billing", "patient"];
    const own = services.flatMap((name) => [`postgres-${name}-doctor/password`, `kafka-user-${name}/user.crt`]);
    expect([...new Set(mounted)].sort()).toEqual(["kafka-cluster-ca-cert/ca.crt", "postgres-ca/ca.crt", ...own].sort());
  });

  test("makes only the secrets that services name, each of 32 bytes", () => {
    const secret = parse(renderChart([])).find(({ kind }) => kind === "Secret");
    const { "admin-password": password, ...keys } = secret?.data ?? {};
    expect(Buffer.from(password ?? "", "base64").toString()).toMatch(/^[A-Za-z0-9]{24}$/);
    expect(Object.keys(keys)).toContain("key-encryption-key");
    for (const value of Object.values(keys)) expect(Buffer.from(Buffer.from(value, "base64").toString(), "base64")).toHaveLength(32);
  });

  test("the gateway and auth have one secret, by which auth believes what the gateway says of a client", () => {
    const objects = parse(renderChart([]));
    const gateway = objects.find(({ kind, metadata }) => kind === "Deployment" && metadata.name === "gateway");
    const config = objects.find(({ kind, metadata }) => kind === "ConfigMap" && metadata.name === "auth");
    const secret = { name: "patient-management", key: "gateway-secret" };
    expect(JSON.stringify(gateway?.spec)).toContain(JSON.stringify({ name: "GATEWAY_SECRET", valueFrom: { secretKeyRef: secret } }));
    expect(JSON.stringify(config)).toContain("/etc/patient-management/secrets/gateway-secret");
    expect(JSON.stringify(config)).toContain('"GATEWAY_NETWORKS":"127.0.0.0/8,::1/128"');
  });

  test("for production, administrators have a second factor, images are pinned, and browsers come by HTTPS only", () => {
    const production = parse(renderChart(renders.production));
    const config = (name: string) => production.find(({ kind, metadata }) => kind === "ConfigMap" && metadata.name === name)?.data ?? {};
    expect(config("auth").SECOND_FACTOR_REQUIRED).toBe("admins");
    expect(unpinned(production)).toEqual([]);
    expect(unpinned(parse(renderChart([]))).length).toBeGreaterThan(0);
    const hsts = /key: strict-transport-security, value: "(.*?)"/;
    expect(hsts.exec(config("gateway")["envoy.yaml"] ?? "")?.[1]).toBe("max-age=31536000; includeSubDomains");
    for (const settings of [["publicUrl=http://localhost:4004"], ["publicUrl=https://a.example", "gateway.hstsSeconds=0"]])
      expect(hsts.exec(renderChart([], settings))?.[1], settings.join()).toBe("");
  });

  test("every pod runs where the values want pods, with their labels: those of Jobs and of helm test too", () => {
    const pods = podsOf(parse(renderChart(renders.everything)));
    const placed = {
      nodeSelector: { "kubernetes.io/arch": "amd64" },
      tolerations: [{ key: "dedicated", operator: "Exists", effect: "NoSchedule" }],
      priorityClassName: "high",
      imagePullSecrets: [{ name: "pull" }],
    };
    expect(new Set(pods.map(({ kind }) => kind))).toEqual(new Set(["Deployment", "Job", "CronJob", "Pod"]));
    for (const { owner, labels, annotations, spec } of pods) {
      expect(spec, owner).toMatchObject(placed);
      expect(labels, owner).toMatchObject({ team: "blue" });
      expect(annotations, owner).toMatchObject({ "example.com/note": "yes" });
    }
  });

  test("another tag of the services' images does not replace the gateway, whose image is another", () => {
    const gateway = (tag: string) =>
      parse(renderChart([], [`image.tag=${tag}`])).find(({ kind, metadata }) => kind === "Deployment" && metadata.name === "gateway");
    expect(gateway("1.0.0")?.spec?.template).toBeDefined();
    expect(gateway("1.0.0")?.spec?.template).toEqual(gateway("1.0.1")?.spec?.template);
  });

  test("names every object by the prefix", () => {
    const unprefixed = parse(renderChart(renders.everything)).filter(({ metadata }) => !metadata.name.startsWith("blue-"));
    expect(unprefixed.map(({ kind, metadata }) => `${kind} ${metadata.name}`)).toEqual([]);
  });
});

describe.skipIf(whyNot("kustomize"))("the Jobs for AWS", options(whyNot("kustomize")), () => {
  test("the Job of k8s/rds runs the script of the stand-alone variant with the same passwords, over TLS that it verifies", () => {
    type Workload = {
      spec: { template: { spec: { containers: { env: unknown[] }[]; volumes: { name: string; projected?: unknown }[] } } };
    };
    const [rds, standalone] = [parse(renderKustomization("rds")), parse(renderKustomization("standalone"))];
    const find = (objects: Manifest[], kind: string, name: string) =>
      objects.find((each) => each.kind === kind && each.metadata.name === name);
    const script = (objects: Manifest[]) => find(objects, "ConfigMap", "postgres")?.data?.["roles.sh"];
    const job = (find(rds, "Job", "postgres-roles") as Workload | undefined)?.spec.template.spec;
    const server = (find(standalone, "StatefulSet", "postgres") as Workload | undefined)?.spec.template.spec;
    const passwords = (pod: typeof job) => pod?.volumes.find(({ name }) => name === "passwords")?.projected;
    expect(script(rds)).toBeDefined();
    expect(script(rds)).toBe(script(standalone));
    expect(passwords(job)).toBeDefined();
    expect(passwords(job)).toEqual(passwords(server));
    expect(job?.containers[0]?.env).toContainEqual({ name: "PGSSLMODE", value: "verify-full" });
  });

  test("the Job of k8s/msk runs the script of the stand-alone variant, with an administrator and three copies of each topic", () => {
    const [msk, standalone] = [parse(renderKustomization("msk")), parse(renderKustomization("standalone"))];
    const script = (objects: Manifest[]) =>
      objects.find(({ kind, metadata }) => kind === "ConfigMap" && metadata.name === "kafka")?.data?.["topics.sh"];
    expect(script(msk)).toBeDefined();
    expect(script(msk)).toBe(script(standalone));
    const job = JSON.stringify(msk.find(({ kind }) => kind === "Job"));
    expect(job).toContain('{"name":"REPLICAS","value":"3"}');
    expect(job).toContain('{"name":"ADMINISTRATOR","value":"admin"}');
  });
});

describe.skipIf(whyNot("kustomize"))("the manifests of k8s", options(whyNot("kustomize")), () => {
  test.each(kustomizations)("%s breaks no rule of the house", (name) => {
    expect(violations(parse(renderKustomization(name)))).toEqual([]);
  });

  test("both variants make the same topics and let the same users do the same", () => {
    const strimzi = parse(renderKustomization("strimzi"));
    const script = readFileSync(join(root, "k8s/topics/topics.sh"), "utf8");
    const declared = strimzi.filter(({ kind }) => kind === "KafkaTopic").map(describeTopic);
    const year = /year=(\d+)/.exec(script)?.[1] ?? "";
    const week = /week=\$\{\w+:-(\d+)\}/.exec(script)?.[1] ?? "";
    const made = [...script.matchAll(/^topic (\S+) (\d+) (\S+)( cleanup\.policy=\S+)?$/gm)].map(([, name, partitions, retention]) => [
      name,
      Number(partitions),
      Number(retention?.replace('"$week"', week).replace("$year", year)),
    ]);
    expect(made.sort()).toEqual(declared.sort());
    const users = strimzi.filter(({ kind }) => kind === "KafkaUser").map(({ metadata }) => metadata.name);
    const certificates = readFileSync(join(root, "k8s/standalone/secrets.json"), "utf8");
    expect(users.filter((user) => !certificates.includes(`"kafka-user-${user}"`))).toEqual([]);
  });

  // Brokers of Strimzi and instances of CloudNativePG read their certificates there, and do not start without them.
  test.each(["strimzi", "postgres"])("what the operator of %s runs reaches the API server", (variant) => {
    type Egress = { to?: unknown; ports?: { port: number }[] }[];
    const policies = parse(renderKustomization(variant)).filter(({ kind }) => kind === "NetworkPolicy");
    expect(policies.length).toBeGreaterThan(0);
    for (const { metadata, spec } of policies) {
      const anywhere = ((spec?.egress ?? []) as Egress)
        .filter(({ to }) => to === undefined)
        .flatMap(({ ports = [] }) => ports.map(({ port }) => port));
      expect(anywhere, metadata.name).toEqual(expect.arrayContaining([443, 6443]));
    }
  });

  test("Postgres logs neither rows nor parameters, in both variants", () => {
    const quiet = { log_error_verbosity: "terse", log_parameter_max_length: "0", log_parameter_max_length_on_error: "0" };
    const cluster = parse(renderKustomization("postgres")).find(({ kind }) => kind === "Cluster");
    expect(cluster?.spec).toMatchObject({ postgresql: { parameters: quiet } });
    const standalone = parse(renderKustomization("standalone")).filter(({ kind }) => kind === "StatefulSet");
    const args = JSON.stringify(standalone);
    for (const [name, value] of Object.entries(quiet)) expect(args).toContain(`"-c","${name}=${value}"`);
  });

  // packages/stack/test/postgres.int.test.ts shows what the statement does.
  test("a service's roles cannot connect to the databases that everybody may connect to by default, in both variants", () => {
    const revoke = "REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC";
    const cluster = parse(renderKustomization("postgres")).find(({ kind }) => kind === "Cluster");
    expect(cluster?.spec).toMatchObject({ bootstrap: { initdb: { postInitSQL: [revoke] } } });
    const config = parse(renderKustomization("standalone")).find(
      ({ kind, metadata }) => kind === "ConfigMap" && metadata.name === "postgres",
    );
    expect(config?.data?.["roles.sh"]).toContain(revoke);
  });

  test("the Job may read and replace exactly the Secrets that it makes", () => {
    for (const variant of ["standalone", "postgres"]) {
      const wanted = JSON.parse(readFileSync(join(root, "k8s", variant, "secrets.json"), "utf8")) as {
        name: string;
        publicName?: string;
      }[];
      const role = parse(readFileSync(join(root, "k8s", variant, "role.yaml"), "utf8"))[0] as Manifest & {
        rules: { resourceNames?: string[] }[];
      };
      const names = wanted.flatMap(({ name, publicName }) => [name, ...(publicName ? [publicName] : [])]);
      expect(role.rules.flatMap(({ resourceNames }) => resourceNames ?? []).sort()).toEqual(names.sort());
    }
  });
});

function describeTopic({ metadata, spec }: Manifest): [string, number, number] {
  const { partitions, config } = spec as { partitions: number; config: { "retention.ms": number } };
  return [metadata.name, partitions, config["retention.ms"]];
}

/** API groups of the operators' types. Kubernetes itself knows all others. */
const operators = /^(kafka\.strimzi\.io|(postgresql|barmancloud)\.cnpg\.io|monitoring\.coreos\.com|gateway\.networking\.k8s\.io)\//;
const locations = whyNot("kubeconform") === undefined ? await schemaLocations() : [];
const unchecked =
  whyNot("helm", "kustomize", "kubeconform") ?? (locations instanceof Error ? `no schemas: ${locations.message}` : undefined);

describe.skipIf(unchecked)("kubeconform, strict", options(unchecked), () => {
  const sources: [string, () => string][] = [
    ...Object.entries(renders).map(([name, values]): [string, () => string] => [`chart ${name}`, () => renderChart(values)]),
    ...kustomizations.map((name): [string, () => string] => [`k8s/${name}`, () => renderKustomization(name)]),
  ];
  test.for(sources)("%s", async ([, render], { annotate }) => {
    const schemas = (locations as string[]).flatMap((location) => ["-schema-location", location]);
    const args = ["-strict", "-output", "json", "-verbose", "-kubernetes-version", kubernetesVersion, ...schemas];
    const { stdout } = spawnSync(String(programs.kubeconform), args, { input: render(), encoding: "utf8", maxBuffer: 64 * 1024 * 1024 });
    type Resource = { kind: string; name: string; version: string; status: string; msg: string };
    const { resources } = JSON.parse(stdout) as { resources: Resource[] };
    expect(resources).toHaveLength(parse(render()).length);
    const unknown = resources.filter(({ msg, version }) => /could not find schema/.test(msg) && operators.test(version));
    const names = unknown.map(({ kind, name }) => `${kind} ${name}`).sort();
    if (names.length > 0) await annotate(`no schemas of ${names.join(", ")}`, "skipped");
    const wrong = resources.filter((resource) => resource.status !== "statusValid" && !unknown.includes(resource));
    expect(wrong.map(({ kind, name: object, msg }) => `${kind} ${object}: ${msg}`)).toEqual([]);
  });
});

test("the golden folder has no file that no render makes", () => {
  expect(readdirSync(golden).sort()).toEqual(
    Object.keys(renders)
      .map((name) => basename(`${name}.yaml`))
      .sort(),
  );
});
