/**
 * Buckets for what outlives the cluster: logs of access, and backups (dumps, who was erased, heads of audit chains).
 */
import { CfnOutput, Duration, RemovalPolicy, Stack, type StackProps } from "aws-cdk-lib";
import { PolicyStatement, ServicePrincipal } from "aws-cdk-lib/aws-iam";
import type { IKey } from "aws-cdk-lib/aws-kms";
import { BlockPublicAccess, Bucket, BucketEncryption, type IBucket, ObjectOwnership } from "aws-cdk-lib/aws-s3";
import { S3_SERVER_ACCESS_LOGS_USE_BUCKET_POLICY } from "aws-cdk-lib/cx-api";
import type { Construct } from "constructs";
import type { Settings } from "./settings.ts";

export class BucketsStack extends Stack {
  constructor(scope: Construct, id: string, props: StackProps & { settings: Settings; dataKey: IKey }) {
    super(scope, id, props);
    const { settings, dataKey } = props;
    // S3 may write its logs by the policy of the bucket, not by an access control list.
    this.node.setContext(S3_SERVER_ACCESS_LOGS_USE_BUCKET_POLICY, true);
    const shared = {
      blockPublicAccess: BlockPublicAccess.BLOCK_ALL,
      enforceSSL: true,
      minimumTLSVersion: 1.2,
      versioned: true,
      objectOwnership: ObjectOwnership.BUCKET_OWNER_ENFORCED,
      removalPolicy: RemovalPolicy.RETAIN,
    };
    const logs = new Bucket(this, "Logs", {
      ...shared,
      bucketName: `${settings.name}-logs-${this.account}-${this.region}`,
      // Load balancers and S3 itself cannot write with a key of the account.
      encryption: BucketEncryption.S3_MANAGED,
      lifecycleRules: [{ expiration: Duration.days(365), noncurrentVersionExpiration: Duration.days(30) }],
    });
    const backups = new Bucket(this, "Backups", {
      ...shared,
      bucketName: `${settings.name}-backups-${this.account}-${this.region}`,
      encryption: BucketEncryption.KMS,
      encryptionKey: dataKey,
      bucketKeyEnabled: true,
      serverAccessLogsBucket: logs as IBucket,
      serverAccessLogsPrefix: "backups/",
      // Nobody deletes a backup by mistake: for a month, its versions stay.
      lifecycleRules: [{ noncurrentVersionExpiration: Duration.days(30), abortIncompleteMultipartUploadAfter: Duration.days(7) }],
    });
    const loadBalancers = new ServicePrincipal("delivery.logs.amazonaws.com");
    const conditions = { StringEquals: { "aws:SourceAccount": this.account } };
    logs.addToResourcePolicy(
      new PolicyStatement({
        principals: [loadBalancers],
        actions: ["s3:PutObject"],
        resources: [logs.arnForObjects(`gateway/AWSLogs/${this.account}/*`)],
        conditions,
      }),
    );
    logs.addToResourcePolicy(
      new PolicyStatement({ principals: [loadBalancers], actions: ["s3:GetBucketAcl"], resources: [logs.bucketArn], conditions }),
    );
    new CfnOutput(this, "LogsBucket", { value: logs.bucketName });
    new CfnOutput(this, "BackupsBucket", { value: backups.bucketName });
  }
}
