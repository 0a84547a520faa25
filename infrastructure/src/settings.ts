/** What an operator decides: where the platform runs, who administers it, and how large it is. */
import { readFileSync } from "node:fs";
import { z } from "zod";

/** The services that have a database. */
export const services = ["patient", "billing", "analytics", "auth"] as const;
/** Every service has an image. */
export const images = [...services, "fhir"] as const;

/** Sizes. docs/aws.md says what each costs, and what it holds. */
export const profiles = {
  /** For people who try it: one zone of databases, one NAT gateway, no private endpoints. */
  trial: {
    nodeType: "t4g.large",
    nodes: 3,
    maxNodes: 4,
    databaseType: "t4g.medium",
    databaseGiB: 20,
    maxDatabaseGiB: 100,
    multiAz: false,
    backupDays: 7,
    brokerType: "kafka.t3.small",
    brokerGiB: 20,
    natGateways: 1,
    privateEndpoints: false,
  },
  /** For a clinic: a database that survives the loss of a zone. */
  clinic: {
    nodeType: "m7g.large",
    nodes: 3,
    maxNodes: 6,
    databaseType: "m7g.large",
    databaseGiB: 100,
    maxDatabaseGiB: 500,
    multiAz: true,
    backupDays: 30,
    brokerType: "kafka.m7g.large",
    brokerGiB: 50,
    natGateways: 1,
    privateEndpoints: true,
  },
  /** For a hospital: the way out of each zone is its own, too. */
  hospital: {
    nodeType: "m7g.xlarge",
    nodes: 3,
    maxNodes: 9,
    databaseType: "r7g.xlarge",
    databaseGiB: 400,
    maxDatabaseGiB: 2000,
    multiAz: true,
    backupDays: 35,
    brokerType: "kafka.m7g.large",
    brokerGiB: 200,
    natGateways: 3,
    privateEndpoints: true,
  },
} as const;

const settingsSchema = z.strictObject({
  /** Prefix of the names of stacks, roles, secrets and buckets. */
  name: z.string().regex(/^[a-z][a-z0-9-]{1,20}$/, "is 2 to 21 lower-case letters, digits and hyphens"),
  account: z.string().regex(/^\d{12}$/, "is the twelve digits of an account"),
  region: z.string().regex(/^[a-z]{2}(-[a-z]+)+-\d$/, "is a region, such as eu-central-1"),
  /** They are named, because a synth without credentials cannot look them up. */
  zones: z.array(z.string().regex(/^[a-z]{2}(-[a-z]+)+-\d[a-z]$/, "is a zone, such as eu-central-1a")).length(3),
  profile: z.enum(Object.keys(profiles) as [keyof typeof profiles, ...(keyof typeof profiles)[]]),
  /**
   * `shared`: one instance of PostgreSQL has the databases of all services. `separate`: each service has an instance.
   */
  databases: z.enum(["shared", "separate"]).default("shared"),
  /** `strimzi`: Kafka runs in the cluster. `msk`: Amazon runs it. */
  kafka: z.enum(["strimzi", "msk"]).default("strimzi"),
  /** Whether pods and nodes reach the internet. Without it, every image has to be in a registry of the account. */
  nat: z.boolean(),
  cidr: z.string().regex(/^\d+\.\d+\.\d+\.\d+\/1[6-9]$/, "is a network of /16 to /19, such as 10.60.0.0/16"),
  /** The role of those who administer the cluster. Nobody else can, not even who deploys. */
  adminRoleArn: z.string().regex(/^arn:aws[a-z-]*:iam::\d{12}:role\/\S+$/, "is the ARN of a role"),
  /** A public hosted zone of the account, and the host in it at which the gateway answers. */
  domain: z.string().min(3),
  hostedZoneId: z.string().regex(/^Z[A-Z0-9]+$/, "is the id of a hosted zone, such as Z0123456789EXAMPLE"),
  host: z.string().min(3),
});

export type Settings = z.infer<typeof settingsSchema>;

/** @throws Error that names each wrong field */
export function readSettings(file: string): Settings {
  const result = settingsSchema
    .refine(({ zones, region }) => zones.every((zone) => zone.startsWith(region)), { path: ["zones"], error: "are not of the region" })
    .refine(({ host, domain }) => host.endsWith(`.${domain}`), { path: ["host"], error: "is not in the domain" })
    .safeParse(JSON.parse(readFileSync(file, "utf8")));
  if (result.success) return result.data;
  throw new Error(result.error.issues.map(({ path, message }) => `${file}: ${path.join(".") || "settings"}: ${message}`).join("\n"));
}
