/**
 * Keys that encrypt what the other stacks store. A key is never deleted with its stack: without it, backups are noise.
 */
import { RemovalPolicy, Stack, type StackProps } from "aws-cdk-lib";
import { PolicyStatement, ServicePrincipal } from "aws-cdk-lib/aws-iam";
import { Key } from "aws-cdk-lib/aws-kms";
import type { Construct } from "constructs";

export class KeysStack extends Stack {
  /** Databases, their secrets and their backups. */
  readonly data: Key;
  /** Secrets inside the cluster. */
  readonly cluster: Key;
  readonly logs: Key;
  readonly images: Key;

  constructor(scope: Construct, id: string, props: StackProps) {
    super(scope, id, props);
    const key = (name: string, description: string) =>
      new Key(this, name, { description, enableKeyRotation: true, removalPolicy: RemovalPolicy.RETAIN });
    this.data = key("Data", "Databases, their secrets and backups");
    this.cluster = key("Cluster", "Secrets of the cluster");
    this.logs = key("Logs", "Log groups");
    this.images = key("Images", "Container images");
    this.logs.addToResourcePolicy(
      new PolicyStatement({
        principals: [new ServicePrincipal(`logs.${this.region}.amazonaws.com`)],
        actions: ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey", "kms:ReEncryptFrom", "kms:ReEncryptTo"],
        resources: ["*"],
        conditions: { ArnLike: { "kms:EncryptionContext:aws:logs:arn": `arn:${this.partition}:logs:${this.region}:${this.account}:*` } },
      }),
    );
  }
}
