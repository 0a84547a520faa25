/**
 * `npm run infrastructure:values -- outputs.json`: turns what `cdk deploy --outputs-file outputs.json` writes into
 * `values-aws.yaml` for the chart and `secrets-aws.yaml` for External Secrets, in the current folder. Where Kafka is
 * MSK, `--brokers` has the addresses that CloudFormation does not tell, and `kafka-aws.yaml` its clients' certificates.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { stringify } from "yaml";
import { z } from "zod";
import { passwordsOf } from "./secrets.ts";
import { services } from "./settings.ts";

type Service = (typeof services)[number];

/** Who reads passwords, and the names of those. */
const readers = { superuser: ["superuser"], ...passwordsOf };
type Reader = "superuser" | Service;

const readerRoles = Object.fromEntries(Object.keys(readers).map((reader) => [`ReaderRole${reader}`, z.string()])) as Record<
  `ReaderRole${Reader}`,
  z.ZodString
>;

/** Where each service has an instance of its own. */
const hosts = Object.fromEntries(services.map((service) => [`PostgresHost${service}`, z.string().optional()])) as Record<
  `PostgresHost${Service}`,
  z.ZodOptional<z.ZodString>
>;

const outputsSchema = z.object({
  DatabaseNetworks: z.string(),
  PostgresHost: z.string().optional(),
  ...hosts,
  Region: z.string(),
  SecretPrefix: z.string(),
  ...readerRoles,
  KafkaAuthority: z.string().optional(),
  KafkaNetworks: z.string().optional(),
  Registry: z.string(),
  Host: z.string(),
  CertificateArn: z.string(),
  LogsBucket: z.string(),
});

/** @throws Error that names each output that is missing */
export function readOutputs(json: string) {
  const stacks = Object.values(JSON.parse(json) as Record<string, object>);
  const result = outputsSchema
    .refine(({ PostgresHost, ...outputs }) => PostgresHost ?? services.every((service) => outputs[`PostgresHost${service}`]), {
      path: ["PostgresHost"],
    })
    .safeParse(Object.assign({}, ...stacks));
  if (result.success) return result.data;
  const names = result.error.issues.map(({ path }) => path.join("."));
  throw new Error(`the outputs lack ${names.join(", ")}: deploy all stacks, with --outputs-file`);
}

type Outputs = ReturnType<typeof readOutputs>;

/** What the chart needs to know of the ground. Everything else comes from a copy of values-production.yaml. */
export function chartValues(outputs: Outputs, brokers: string[] = []): string {
  const balancer = "service.beta.kubernetes.io/aws-load-balancer";
  const values = {
    publicUrl: `https://${outputs.Host}`,
    image: { registry: outputs.Registry },
    postgres:
      outputs.PostgresHost === undefined
        ? { hosts: Object.fromEntries(services.map((service) => [service, outputs[`PostgresHost${service}`]])) }
        : { host: outputs.PostgresHost },
    ...(brokers.length > 0 && {
      kafka: { brokers, caSecret: { name: "kafka-ca" }, userKeys: { certificate: "tls.crt", key: "tls.key" } },
    }),
    gateway: {
      serviceType: "LoadBalancer",
      port: 443,
      // The load balancer passes connections on with the address of their client, and adds no X-Forwarded-For.
      trustedHops: 0,
      serviceAnnotations: {
        [`${balancer}-type`]: "external",
        [`${balancer}-scheme`]: "internet-facing",
        [`${balancer}-nlb-target-type`]: "ip",
        [`${balancer}-target-group-attributes`]: "preserve_client_ip.enabled=true",
        [`${balancer}-ssl-cert`]: outputs.CertificateArn,
        [`${balancer}-ssl-ports`]: "443",
        [`${balancer}-ssl-negotiation-policy`]: "ELBSecurityPolicy-TLS13-1-2-2021-06",
        // For gRPC.
        [`${balancer}-alpn-policy`]: "HTTP2Preferred",
        [`${balancer}-attributes`]: [
          "access_logs.s3.enabled=true",
          `access_logs.s3.bucket=${outputs.LogsBucket}`,
          "access_logs.s3.prefix=gateway",
          "deletion_protection.enabled=false",
        ].join(","),
        "external-dns.alpha.kubernetes.io/hostname": outputs.Host,
      },
    },
    networkPolicy: {
      gatewayFrom: [],
      postgres: peersIn(outputs.DatabaseNetworks),
      ...(outputs.KafkaNetworks !== undefined && { kafka: peersIn(outputs.KafkaNetworks) }),
    },
    ingress: { enabled: false },
  };
  return `# Made by \`npm run infrastructure:values\`; give it to Helm after your copy of values-production.yaml.\n${stringify(values, { lineWidth: 0 })}`;
}

const peersIn = (networks: string) => networks.split(",").map((cidr) => ({ ipBlock: { cidr } }));

/** For MSK: the addresses of its brokers, the issuer of certificates, and a certificate for each client. */
export function kafkaClients(outputs: Outputs, brokers: string[]): string {
  const objects = [
    { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "kafka-brokers" }, data: { bootstrap: brokers.join(",") } },
    {
      apiVersion: "awspca.cert-manager.io/v1beta1",
      kind: "AWSPCAIssuer",
      metadata: { name: "kafka" },
      spec: { arn: outputs.KafkaAuthority, region: outputs.Region },
    },
    ...["admin", ...services].map((name) => ({
      apiVersion: "cert-manager.io/v1",
      kind: "Certificate",
      metadata: { name: `kafka-user-${name}` },
      spec: {
        secretName: `kafka-user-${name}`,
        commonName: name,
        duration: "2160h0m0s",
        renewBefore: "720h0m0s",
        usages: ["client auth"],
        privateKey: { algorithm: "ECDSA", size: 256, encoding: "PKCS8", rotationPolicy: "Always" },
        issuerRef: { group: "awspca.cert-manager.io", kind: "AWSPCAIssuer", name: "kafka" },
      },
    })),
  ];
  return objects.map((object) => stringify(object, { lineWidth: 0 })).join("---\n");
}

/** A SecretStore for each reader, with its role, and an ExternalSecret for each password that it reads. */
export function externalSecrets(outputs: Outputs): string {
  const apiVersion = "external-secrets.io/v1";
  const administrators = services.flatMap((service) =>
    ["host", "username", "password"].map((property) => ({
      secretKey: `${service}.${property}`,
      remoteRef: { key: `${outputs.SecretPrefix}/postgres-superuser${outputs.PostgresHost ? "" : `-${service}`}`, property },
    })),
  );
  const objects = (Object.entries(readers) as [Reader, string[]][]).flatMap(([reader, roles]) => [
    {
      apiVersion,
      kind: "SecretStore",
      metadata: { name: reader },
      spec: {
        provider: {
          aws: { service: "SecretsManager", region: outputs.Region, role: outputs[`ReaderRole${reader}`] },
        },
      },
    },
    ...roles.map((role) => ({
      apiVersion,
      kind: "ExternalSecret",
      metadata: { name: `postgres-${role}` },
      spec: {
        refreshInterval: "1h0m0s",
        secretStoreRef: { kind: "SecretStore", name: reader },
        target: { name: `postgres-${role}` },
        ...(role === "superuser"
          ? { data: administrators }
          : { dataFrom: [{ extract: { key: `${outputs.SecretPrefix}/postgres-${role}` } }] }),
      },
    })),
  ]);
  return objects.map((object) => stringify(object, { lineWidth: 0 })).join("---\n");
}

if (import.meta.main) {
  const { positionals, values } = parseArgs({ allowPositionals: true, options: { brokers: { type: "string" } } });
  const [file] = positionals;
  const brokers = values.brokers?.split(",") ?? [];
  if (file === undefined)
    throw new Error("name the file that `cdk deploy --outputs-file` wrote: npm run infrastructure:values -- outputs.json");
  const outputs = readOutputs(readFileSync(file, "utf8"));
  if (outputs.KafkaAuthority !== undefined && brokers.length === 0)
    throw new Error("Kafka is MSK: add --brokers with what `aws kafka get-bootstrap-brokers` calls BootstrapBrokerStringTls");
  writeFileSync("values-aws.yaml", chartValues(outputs, brokers));
  if (outputs.KafkaAuthority !== undefined) writeFileSync("kafka-aws.yaml", kafkaClients(outputs, brokers));
  writeFileSync("secrets-aws.yaml", externalSecrets(outputs));
  const written = ["values-aws.yaml", "secrets-aws.yaml", ...(outputs.KafkaAuthority === undefined ? [] : ["kafka-aws.yaml"])];
  process.stdout.write(`wrote ${written.join(", ")}\n`);
}
