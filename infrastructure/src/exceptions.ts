/**
 * What judges find and we keep, each with the reason. A finding that is not here fails, and so does a line here that no
 * judge finds any more.
 */
export type Exception = {
  rule: string;
  /** Paths or ids of the resources, with the stack before them. */
  at: RegExp;
  why: string;
};

const managed = "AWS publishes this policy for exactly this add-on or role, and keeps it up to date.";
const loadBalancers =
  "The controller's own policy. It makes load balancers whose names nobody knows before; conditions on their tags bind it to its cluster.";
const rotation =
  "A rotation needs code that runs in the account and knows our four roles per database. docs/aws.md says how people rotate them.";

export const exceptions: Record<"cdk-nag" | "cfn-lint" | "checkov", Exception[]> = {
  "cdk-nag": [
    { rule: "AwsSolutions-IAM4", at: /cluster\/(Cluster\/Role|NetworkRole|NodeRole|VolumesRole)/, why: managed },
    { rule: "AwsSolutions-IAM4", at: /data\/Postgres\/MonitoringRole/, why: managed },
    { rule: "AwsSolutions-IAM5", at: /cluster\/LoadBalancersPolicy/, why: loadBalancers },
    { rule: "AwsSolutions-IAM5", at: /cluster\/NamesRole/, why: "Route 53 lists all zones of an account, or none." },
    { rule: "AwsSolutions-SMG4", at: /Secret\/Resource|secrets\/Password/, why: rotation },
    { rule: "HIPAA.Security-SecretsManagerRotationEnabled", at: /Secret\/Resource|secrets\/Password/, why: rotation },
    {
      rule: "AwsSolutions-RDS11",
      at: /data\/Postgres/,
      why: "Another port hides nothing from who is inside the network, where alone the database answers.",
    },
    {
      rule: "HIPAA.Security-RDSInBackupPlan",
      at: /data\/Postgres/,
      why: "RDS keeps its own backups, to any second of the time that the profile names; they stay when the instance is deleted.",
    },
    {
      rule: "HIPAA.Security-VPCDefaultSecurityGroupClosed",
      at: /network\/Vpc/,
      why: "Nothing uses the default group, and CloudFormation cannot change it without code that runs in the account.",
    },
    {
      rule: "HIPAA.Security-VPCNoUnrestrictedRouteToIGW",
      at: /network\/Vpc\/publicSubnet/,
      why: "A public load balancer needs this route. Only load balancers and NAT gateways are in these subnets.",
    },
    {
      rule: "HIPAA.Security-IAMNoInlinePolicy",
      at: /FlowLog|NamesRole|CertificatesRole|Reader-/,
      why: "The policy belongs to one role, is deleted with it, and cannot be given to another by mistake.",
    },
    {
      rule: "HIPAA.Security-S3BucketReplicationEnabled",
      at: /buckets\/(Logs|Backups)/,
      why: "Records of patients leave the region only if an operator decides so. S3 keeps each object in three zones.",
    },
    {
      rule: "HIPAA.Security-S3DefaultEncryptionKMS",
      at: /buckets\/Logs/,
      why: "Load balancers and S3 cannot write their logs with a key of the account. S3 encrypts them with its own.",
    },
  ],
  "cfn-lint": [{ rule: "W3010", at: /network\/Vpc/, why: "Zones are named, because a synth without credentials cannot look them up." }],
  checkov: [
    { rule: "CKV_AWS_111", at: /cluster\/LoadBalancersPolicy/, why: loadBalancers },
    { rule: "CKV_AWS_18", at: /buckets\/Logs/, why: "It has the logs. A log of the logs would have no end." },
    {
      rule: "CKV_AWS_161",
      at: /data\/Postgres/,
      why: "Services log in by passwords, on every ground. An IAM token would be a second way in that nobody uses.",
    },
  ],
};
