import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { App } from "aws-cdk-lib";
import { Match, Template } from "aws-cdk-lib/assertions";
import { afterAll, expect, test } from "vitest";
import { addStacks } from "./app.ts";
import { profiles, readSettings, type Settings } from "./settings.ts";

const example = readSettings(`${import.meta.dirname}/../settings.example.json`);

const folder = mkdtempSync(join(tmpdir(), "pm-stacks-"));
afterAll(() => rmSync(folder, { recursive: true }));

type Resource = { Type: string; Properties: Record<string, unknown>; DeletionPolicy?: string };
type Statement = { Effect: string; Action: string | string[]; Resource?: unknown; Principal?: unknown; Condition?: unknown };

/** The templates of all stacks, by the last part of their names. */
function synthesize(changes: Partial<Settings> = {}) {
  const stacks = addStacks(new App({ outdir: mkdtempSync(join(folder, "synth-")) }), { ...example, ...changes });
  const templates = Object.entries(stacks).map(([name, stack]) => [name, Template.fromStack(stack)] as const);
  return Object.fromEntries(templates) as Record<keyof typeof stacks, Template>;
}

const clinic = synthesize();
const sizes = Object.keys(profiles) as (keyof typeof profiles)[];
const all: Record<string, Record<keyof typeof clinic, Template>> = {
  ...Object.fromEntries(sizes.map((profile) => [profile, synthesize({ profile })])),
  "without NAT": synthesize({ nat: false }),
  "an instance per service": synthesize({ databases: "separate" }),
  "Kafka by MSK": synthesize({ kafka: "msk" }),
};

function resources(templates: Record<string, Template>): [string, Resource][] {
  return Object.entries(templates).flatMap(([stack, template]) =>
    Object.entries((template.toJSON() as { Resources: Record<string, Resource> }).Resources).map(([id, resource]): [string, Resource] => [
      `${stack}/${id}`,
      resource,
    ]),
  );
}

/** Every statement of every policy, with the id of its resource. */
function statements(templates: Record<string, Template>): [string, Statement][] {
  return resources(templates).flatMap(([id, { Properties }]) =>
    [Properties?.PolicyDocument, Properties?.KeyPolicy, Properties?.AssumeRolePolicyDocument]
      .flatMap((document) => (document as { Statement: Statement[] } | undefined)?.Statement ?? [])
      .map((statement): [string, Statement] => [id, statement]),
  );
}

const list = (value: string | string[]) => [value].flat();

test.each(["strimzi", "msk"] as const)("with Kafka by %s, a synth asks AWS for nothing", (kafka) => {
  const app = new App({ outdir: mkdtempSync(join(folder, "synth-")) });
  addStacks(app, { ...example, kafka });
  expect(app.synth().manifest.missing).toBeUndefined();
});

test.each(Object.entries(all))("%s: no database, API of the cluster or subnet of nodes is public", (_, templates) => {
  templates.data.allResourcesProperties("AWS::RDS::DBInstance", { PubliclyAccessible: false });
  templates.cluster.allResourcesProperties("AWS::EKS::Cluster", {
    ResourcesVpcConfig: Match.objectLike({ EndpointPrivateAccess: true, EndpointPublicAccess: false }),
  });
  templates.network.allResourcesProperties("AWS::EC2::Subnet", { MapPublicIpOnLaunch: false });
  templates.data.allResourcesProperties("AWS::EC2::SecurityGroupIngress", { FromPort: 5432, ToPort: 5432, CidrIp: Match.absent() });
  expect(JSON.stringify(templates.data.findResources("AWS::EC2::SecurityGroup"))).not.toContain("SecurityGroupIngress");
});

test("the database admits the security group of the nodes and nothing else", () => {
  const admitted = Object.values(clinic.data.findResources("AWS::EC2::SecurityGroupIngress"));
  expect(admitted.map(({ Properties }) => JSON.stringify(Properties.SourceSecurityGroupId))).toEqual([
    expect.stringContaining("ClusterSecurityGroupId"),
  ]);
});

test("databases have no way out of the network, and nodes have none without NAT", () => {
  const routes = (template: Template) => Object.keys(template.findResources("AWS::EC2::Route"));
  expect(routes(clinic.network).filter((id) => id.includes("databases"))).toEqual([]);
  expect(routes(clinic.network).filter((id) => id.includes("nodes"))).toHaveLength(3);
  expect(routes(all["without NAT"]?.network ?? clinic.network).filter((id) => id.includes("nodes"))).toEqual([]);
});

test("without NAT, nodes reach every service of AWS that they need by an endpoint of the network", () => {
  const names = Object.values(all["without NAT"]?.network.findResources("AWS::EC2::VPCEndpoint") ?? {}).map(({ Properties }) =>
    JSON.stringify(Properties.ServiceName),
  );
  for (const service of ["s3", "ecr.api", "ecr.dkr", "sts", "logs", "secretsmanager", "ec2", "eks", "eks-auth", "elasticloadbalancing"])
    expect(
      names.some((name) => name.includes(`.${service}"`)),
      service,
    ).toBe(true);
});

test.each(Object.entries(all))("%s: databases and buckets speak TLS only", (_, templates) => {
  templates.data.allResourcesProperties("AWS::RDS::DBParameterGroup", {
    Parameters: Match.objectLike({ "rds.force_ssl": "1", ssl_min_protocol_version: "TLSv1.2" }),
  });
  const buckets = Object.keys(templates.buckets.findResources("AWS::S3::Bucket"));
  for (const bucket of buckets)
    templates.buckets.hasResourceProperties("AWS::S3::BucketPolicy", {
      Bucket: { Ref: bucket },
      PolicyDocument: {
        Statement: Match.arrayWith([
          Match.objectLike({ Effect: "Deny", Action: "s3:*", Condition: { Bool: { "aws:SecureTransport": "false" } } }),
        ]),
      },
    });
  expect(buckets).toHaveLength(2);
});

test("the log of Postgres has neither rows nor parameters, as k8s/standalone has it", () => {
  clinic.data.hasResourceProperties("AWS::RDS::DBParameterGroup", {
    Parameters: Match.objectLike({ log_error_verbosity: "terse", log_parameter_max_length: "0", log_parameter_max_length_on_error: "0" }),
  });
});

test.each(Object.entries(all))("%s: everything that is stored is encrypted", (_, templates) => {
  templates.data.allResourcesProperties("AWS::RDS::DBInstance", { StorageEncrypted: true, KmsKeyId: Match.anyValue() });
  templates.cluster.allResourcesProperties("AWS::EKS::Cluster", { EncryptionConfig: [Match.objectLike({ Resources: ["secrets"] })] });
  templates.cluster.allResourcesProperties("AWS::EC2::LaunchTemplate", {
    LaunchTemplateData: Match.objectLike({ BlockDeviceMappings: [Match.objectLike({ Ebs: Match.objectLike({ Encrypted: true }) })] }),
  });
  templates.registry.allResourcesProperties("AWS::ECR::Repository", {
    EncryptionConfiguration: { EncryptionType: "KMS", KmsKey: Match.anyValue() },
    ImageScanningConfiguration: { ScanOnPush: true },
    ImageTagMutability: "IMMUTABLE",
  });
  templates.buckets.allResourcesProperties("AWS::S3::Bucket", { BucketEncryption: Match.anyValue() });
  templates.keys.allResourcesProperties("AWS::KMS::Key", { EnableKeyRotation: true });
  const plain = resources(templates).filter(
    ([, { Type, Properties }]) =>
      (Type === "AWS::SecretsManager::Secret" && !Properties.KmsKeyId) || (Type === "AWS::Logs::LogGroup" && !Properties.KmsKeyId),
  );
  expect(plain.map(([id]) => id)).toEqual([]);
  // EKS and RDS make these themselves, without a key, where they do not exist yet.
  const names = resources(templates).flatMap(([, { Type, Properties }]) =>
    Type === "AWS::Logs::LogGroup" ? [Properties.LogGroupName] : [],
  );
  const instances = Object.values(templates.data.findResources("AWS::RDS::DBInstance")).map(
    ({ Properties }) => Properties.DBInstanceIdentifier,
  );
  const ofDatabases = instances.flatMap((name) => ["postgresql", "upgrade"].map((log) => `/aws/rds/instance/${name}/${log}`));
  expect(names).toEqual(expect.arrayContaining(["/aws/eks/patients/cluster", ...ofDatabases]));
});

test("with an instance per service, each has its own name, password and logs", () => {
  const { data } = all["an instance per service"] ?? clinic;
  const names = (type: string, property: string) =>
    Object.values(data.findResources(type)).map(({ Properties }) => String(Properties[property]));
  expect(names("AWS::RDS::DBInstance", "DBInstanceIdentifier").sort()).toEqual(
    ["analytics", "auth", "billing", "patient"].map((service) => `patients-${service}`),
  );
  expect(new Set(names("AWS::SecretsManager::Secret", "Name")).size).toBe(4);
  expect(new Set(names("AWS::Logs::LogGroup", "LogGroupName")).size).toBe(8);
});

test("MSK admits clients with a certificate only, over TLS, keeps its disks encrypted, and makes no topic by itself", () => {
  const { kafka } = all["Kafka by MSK"] ?? clinic;
  kafka?.hasResourceProperties("AWS::MSK::Cluster", {
    NumberOfBrokerNodes: 3,
    ClientAuthentication: { Tls: Match.objectLike({ Enabled: true }), Unauthenticated: { Enabled: false } },
    EncryptionInfo: { EncryptionAtRest: Match.anyValue(), EncryptionInTransit: { ClientBroker: "TLS", InCluster: true } },
    BrokerNodeGroupInfo: Match.not(Match.objectLike({ ConnectivityInfo: Match.anyValue() })),
  });
  kafka?.hasResourceProperties("AWS::MSK::Configuration", { ServerProperties: Match.stringLikeRegexp("auto.create.topics.enable=false") });
  const admitted = Object.values(kafka?.findResources("AWS::EC2::SecurityGroupIngress") ?? {});
  expect(admitted.map(({ Properties }) => [Properties.FromPort, JSON.stringify(Properties.SourceSecurityGroupId)])).toEqual([
    [9094, expect.stringContaining("ClusterSecurityGroupId")],
  ]);
  expect(clinic.kafka).toBeUndefined();
});

test("databases of a clinic and a hospital survive the loss of a zone; that of a trial does not", () => {
  for (const size of sizes) all[size]?.data.allResourcesProperties("AWS::RDS::DBInstance", { MultiAZ: size !== "trial" });
});

test("data outlives its stack: the database leaves a snapshot, keys, buckets and images stay", () => {
  const policies = (type: string) => new Set(resources(clinic).flatMap(([, each]) => (each.Type === type ? [each.DeletionPolicy] : [])));
  expect(policies("AWS::RDS::DBInstance")).toEqual(new Set(["Snapshot"]));
  for (const type of ["AWS::KMS::Key", "AWS::S3::Bucket", "AWS::ECR::Repository"])
    expect(policies(type), type).toEqual(new Set(["Retain"]));
  clinic.data.allResourcesProperties("AWS::RDS::DBInstance", { DeletionProtection: true, BackupRetentionPeriod: 30 });
});

test.each(["patient", "billing", "analytics", "auth"])(
  "the role that reads for %s reads its four passwords and nothing else",
  (service) => {
    const mine = statements({ secrets: clinic.secrets }).filter(([id]) => id.includes(`Reader${service}DefaultPolicy`));
    const [, read] = mine.find(([, { Action }]) => list(Action).includes("secretsmanager:GetSecretValue")) ?? [];
    const secrets = Object.entries(clinic.secrets.findResources("AWS::SecretsManager::Secret"))
      .filter(([, { Properties }]) => new RegExp(`/postgres-${service}(-owner|-anchor|-doctor)?$`).test(Properties.Name))
      .map(([id]) => ({ Ref: id }));
    expect(secrets).toHaveLength(4);
    expect(read?.Resource).toEqual(secrets);
    const [, decrypt] = mine.find(([, { Action }]) => list(Action).includes("kms:Decrypt")) ?? [];
    expect(decrypt?.Condition).toEqual({ StringEquals: { "kms:EncryptionContext:SecretARN": secrets } });
    expect(mine).toHaveLength(2);
  },
);

test("nobody but External Secrets takes the roles that read secrets, and nothing else reads secrets", () => {
  const trusts = statements({ secrets: clinic.secrets }).filter(([, { Principal }]) => Principal !== undefined);
  expect(trusts.length).toBeGreaterThan(0);
  for (const [id, { Principal }] of trusts) expect(JSON.stringify(Principal), id).toContain("ExternalSecretsRole");
  const readers = statements(clinic).filter(([, { Action }]) => list(Action).includes("secretsmanager:GetSecretValue"));
  expect(readers.map(([id]) => id).filter((id) => !id.startsWith("secrets/Reader"))).toEqual([]);
  expect(readers).toHaveLength(5);
});

test("only the pods of one service account take the role of an add-on", () => {
  const roles = statements({ cluster: clinic.cluster }).filter(([, { Principal }]) => JSON.stringify(Principal)?.includes("pods.eks"));
  expect(roles).toHaveLength(5);
  for (const [id, { Condition }] of roles)
    expect(Object.keys((Condition as { StringEquals: object }).StringEquals), id).toEqual([
      "aws:RequestTag/kubernetes-namespace",
      "aws:RequestTag/kubernetes-service-account",
      "aws:RequestTag/eks-cluster-name",
    ]);
});

test.each(Object.entries(all))("%s: no policy allows an action with a wildcard", (_, templates) => {
  // The account administers its own keys, or nobody could; its policies then say who uses them.
  const isOwner = (id: string, { Principal }: Statement) => id.startsWith("keys/") && JSON.stringify(Principal).includes(":root");
  const wild = statements(templates).filter(
    ([id, each]) => each.Effect === "Allow" && list(each.Action).some((action) => action.includes("*")) && !isOwner(id, each),
  );
  expect(wild).toEqual([]);
});

test.each(Object.entries(all))("%s: no code of ours or of the CDK runs in the account", (_, templates) => {
  const types = resources(templates).map(([, { Type }]) => Type);
  expect(types.filter((type) => /^Custom::|CustomResource|Lambda/.test(type))).toEqual([]);
});

test("pods of the nodes do not reach the credentials of their node", () => {
  clinic.cluster.allResourcesProperties("AWS::EC2::LaunchTemplate", {
    LaunchTemplateData: Match.objectLike({ MetadataOptions: { HttpTokens: "required", HttpPutResponseHopLimit: 1 } }),
  });
});

test("an upgrade of the nodes waits for PodDisruptionBudgets", () => {
  clinic.cluster.allResourcesProperties("AWS::EKS::Nodegroup", { ForceUpdateEnabled: false, UpdateConfig: { MaxUnavailable: 1 } });
});

test("the network of the cluster enforces NetworkPolicies, and comes before the nodes", () => {
  clinic.cluster.hasResourceProperties("AWS::EKS::Addon", { AddonName: "vpc-cni", ConfigurationValues: '{"enableNetworkPolicy":"true"}' });
  const nodes = Object.values(clinic.cluster.findResources("AWS::EKS::Nodegroup"))[0];
  expect(nodes?.DependsOn).toEqual(expect.arrayContaining(["AddOnvpccni", "AddOnkubeproxy"]));
});
