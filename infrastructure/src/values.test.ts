import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { App } from "aws-cdk-lib";
import { Template } from "aws-cdk-lib/assertions";
import { expect, onTestFinished, test } from "vitest";
import { parse, parseAllDocuments } from "yaml";
import { addStacks } from "./app.ts";
import { readSettings } from "./settings.ts";
import { chartValues, externalSecrets, kafkaClients, readOutputs } from "./values.ts";

const folder = `${import.meta.dirname}/..`;
const example = readFileSync(`${folder}/outputs.example.json`, "utf8");

/** tests/charts renders the chart with this file, and checks what comes out by schemas, policy and a golden file. */
const golden = `${folder}/../tests/charts/values/aws.yaml`;

test("the values for the chart are those that tests/charts renders", () => {
  const values = chartValues(readOutputs(example));
  if (process.env.UPDATE) writeFileSync(golden, values);
  expect(values).toBe(readFileSync(golden, "utf8"));
});

test("the example has the outputs that the stacks have, with the networks of the databases", { timeout: 120_000 }, () => {
  const outdir = mkdtempSync(join(tmpdir(), "pm-values-"));
  onTestFinished(() => rmSync(outdir, { recursive: true }));
  const stacks = Object.values(addStacks(new App({ outdir }), readSettings(`${folder}/settings.example.json`)));
  type Outputs = Record<string, { Value: unknown; Export?: unknown }>;
  const made = stacks.map((stack): [string, Outputs] => [
    stack.stackName,
    Object.fromEntries(Object.entries(Template.fromStack(stack).findOutputs("*") as Outputs).filter(([, each]) => !each.Export)),
  ]);
  const names = (outputs: [string, object][]) =>
    outputs.flatMap(([stack, each]) => Object.keys(each).map((name) => `${stack}.${name}`)).sort();
  const given = JSON.parse(example) as Record<string, Record<string, string>>;
  expect(names(Object.entries(given))).toEqual(names(made));
  const network = made.find(([stack]) => stack === "patients-network")?.[1];
  expect(given["patients-network"]?.DatabaseNetworks).toBe(network?.DatabaseNetworks?.Value);
});

test("each role of a database has a Secret of the name that the chart mounts, by the store of its service", () => {
  const objects = parseAllDocuments(externalSecrets(readOutputs(example))).map((document) => document.toJS());
  const stores = objects.filter(({ kind }) => kind === "SecretStore");
  const secrets = objects.filter(({ kind }) => kind === "ExternalSecret");
  const wanted = JSON.parse(readFileSync(`${folder}/../k8s/postgres/secrets.json`, "utf8")) as { name: string }[];
  expect(secrets.map(({ spec }) => spec.target.name).sort()).toEqual([...wanted.map(({ name }) => name), "postgres-superuser"].sort());
  for (const { metadata, spec } of secrets) {
    const store = stores.find((each) => each.metadata.name === spec.secretStoreRef.name);
    expect(metadata.name).toMatch(new RegExp(`^postgres-${store.metadata.name}(-owner|-anchor|-doctor)?$`));
    expect(store.spec.provider.aws.role).toMatch(new RegExp(`-secrets-${store.metadata.name}$`));
    if (metadata.name !== "postgres-superuser") expect(spec.dataFrom).toEqual([{ extract: { key: `patients/${metadata.name}` } }]);
  }
});

test("where each service has an instance of its own, the chart and the Job of k8s/rds know each by its service", () => {
  const { "patients-data": data, ...rest } = JSON.parse(example) as Record<string, object>;
  const services = ["patient", "billing", "analytics", "auth"];
  const separate = { ...rest, "patients-data": Object.fromEntries(services.map((name) => [`PostgresHost${name}`, `${name}.example.com`])) };
  const outputs = (stacks: object) => readOutputs(JSON.stringify(stacks));
  const values = parse(chartValues(outputs(separate)));
  expect(values.postgres).toEqual({ hosts: Object.fromEntries(services.map((name) => [name, `${name}.example.com`])) });
  const keys = (stacks: object) =>
    parseAllDocuments(externalSecrets(outputs(stacks)))
      .map((document) => document.toJS())
      .find(({ kind, metadata }) => kind === "ExternalSecret" && metadata.name === "postgres-superuser")
      .spec.data.filter(({ remoteRef }: { remoteRef: { property: string } }) => remoteRef.property === "host")
      .map(({ secretKey, remoteRef }: { secretKey: string; remoteRef: { key: string } }) => [secretKey, remoteRef.key]);
  expect(keys(separate)).toEqual(services.map((name) => [`${name}.host`, `patients/postgres-superuser-${name}`]));
  expect(keys({ ...rest, "patients-data": data })).toEqual(services.map((name) => [`${name}.host`, "patients/postgres-superuser"]));
  expect(() => outputs({ ...rest, "patients-data": { PostgresHostpatient: "patient.example.com" } })).toThrow("lack PostgresHost");
});

test("where Kafka is MSK, the chart knows its brokers, and each service gets a certificate of its own name", () => {
  const kafka = { KafkaAuthority: "arn:aws:acm-pca:eu-central-1:111122223333:certificate-authority/1", KafkaNetworks: "10.60.4.0/22" };
  const outputs = readOutputs(JSON.stringify({ ...(JSON.parse(example) as object), "patients-kafka": kafka }));
  const brokers = ["b-1.example.com:9094", "b-2.example.com:9094"];
  const values = parse(chartValues(outputs, brokers));
  expect(values.kafka.brokers).toEqual(brokers);
  expect(values.networkPolicy.kafka).toEqual([{ ipBlock: { cidr: "10.60.4.0/22" } }]);
  const objects = parseAllDocuments(kafkaClients(outputs, brokers)).map((document) => document.toJS());
  const certificates = objects.filter(({ kind }) => kind === "Certificate").map(({ spec }) => [spec.secretName, spec.commonName]);
  expect(certificates).toEqual(["admin", "patient", "billing", "analytics", "auth"].map((name) => [`kafka-user-${name}`, name]));
  expect(objects[0].data).toEqual({ bootstrap: brokers.join(",") });
});

test("outputs of a deployment that is not complete are refused by the names of what lacks", () => {
  const { "patients-data": _, ...some } = JSON.parse(example) as Record<string, object>;
  expect(() => readOutputs(JSON.stringify(some))).toThrow("lack PostgresHost:");
});
