/**
 * Kafka by Amazon (MSK), where the settings want it. It lets in clients with a certificate of one authority, which
 * serves nothing else; in the cluster, cert-manager asks that authority for a certificate per service (k8s/msk). Not
 * IAM, which our services do not speak.
 */
import { CfnOutput, Fn, RemovalPolicy, Stack, type StackProps } from "aws-cdk-lib";
import { CfnCertificate, CfnCertificateAuthority, CfnCertificateAuthorityActivation } from "aws-cdk-lib/aws-acmpca";
import { type IConnectable, type ISubnet, type IVpc, Port, SecurityGroup } from "aws-cdk-lib/aws-ec2";
import { PolicyStatement } from "aws-cdk-lib/aws-iam";
import type { IKey } from "aws-cdk-lib/aws-kms";
import { LogGroup, RetentionDays } from "aws-cdk-lib/aws-logs";
import { CfnCluster, CfnConfiguration } from "aws-cdk-lib/aws-msk";
import type { Construct } from "constructs";
import { associate, podRole } from "./pods.ts";
import { profiles, type Settings } from "./settings.ts";

export type KafkaProps = StackProps & {
  settings: Settings;
  vpc: IVpc;
  nodeSubnets: ISubnet[];
  clusterName: string;
  clients: IConnectable;
  dataKey: IKey;
  logsKey: IKey;
};

/** The port for clients with a certificate. */
const port = 9094;

export class KafkaStack extends Stack {
  constructor(scope: Construct, id: string, props: KafkaProps) {
    super(scope, id, props);
    const { settings, vpc, nodeSubnets, clusterName, clients, dataKey, logsKey } = props;
    const authorityArn = this.addAuthority(`${settings.name}: clients of Kafka`);
    const issuer = { clusterName, namespace: "cert-manager", account: "aws-privateca-issuer" };
    const certificates = podRole(this, "Certificates", issuer, {
      statements: [
        new PolicyStatement({
          actions: ["acm-pca:DescribeCertificateAuthority", "acm-pca:GetCertificate", "acm-pca:IssueCertificate"],
          resources: [authorityArn],
        }),
      ],
    });
    associate(this, issuer, certificates);

    const brokers = new SecurityGroup(this, "Brokers", { vpc, description: "Brokers of Kafka", allowAllOutbound: false });
    brokers.connections.allowFrom(clients, Port.tcp(port), "Pods of the cluster");
    const logs = new LogGroup(this, "Logs", {
      logGroupName: `/aws/msk/${settings.name}`,
      encryptionKey: logsKey,
      retention: RetentionDays.ONE_YEAR,
      removalPolicy: RemovalPolicy.RETAIN,
    });
    const configuration = new CfnConfiguration(this, "Configuration", {
      name: settings.name,
      // As in k8s/strimzi. Brokers admit who has no rule until the Job of k8s/msk has made rules for everything.
      serverProperties: ["auto.create.topics.enable=false", "default.replication.factor=3", "min.insync.replicas=2"].join("\n"),
    });
    const profile = profiles[settings.profile];
    const cluster = new CfnCluster(this, "Kafka", {
      clusterName: settings.name,
      kafkaVersion: "3.9.x.kraft",
      numberOfBrokerNodes: 3,
      configurationInfo: { arn: configuration.attrArn, revision: configuration.attrLatestRevisionRevision },
      brokerNodeGroupInfo: {
        instanceType: profile.brokerType,
        clientSubnets: nodeSubnets.map(({ subnetId }) => subnetId),
        securityGroups: [brokers.securityGroupId],
        storageInfo: { ebsStorageInfo: { volumeSize: profile.brokerGiB } },
      },
      clientAuthentication: { tls: { enabled: true, certificateAuthorityArnList: [authorityArn] }, unauthenticated: { enabled: false } },
      encryptionInfo: {
        encryptionAtRest: { dataVolumeKmsKeyId: dataKey.keyArn },
        encryptionInTransit: { clientBroker: "TLS", inCluster: true },
      },
      enhancedMonitoring: "PER_TOPIC_PER_BROKER",
      loggingInfo: { brokerLogs: { cloudWatchLogs: { enabled: true, logGroup: logs.logGroupName } } },
    });
    cluster.applyRemovalPolicy(RemovalPolicy.RETAIN);

    new CfnOutput(this, "KafkaArn", { value: cluster.attrArn });
    new CfnOutput(this, "KafkaAuthority", { value: authorityArn });
    new CfnOutput(this, "KafkaNetworks", {
      value: Fn.join(
        ",",
        nodeSubnets.map(({ ipv4CidrBlock }) => ipv4CidrBlock),
      ),
    });
  }

  /** An authority that signs itself, and is there until somebody deletes it. */
  private addAuthority(commonName: string): string {
    const signingAlgorithm = "SHA256WITHECDSA";
    const authority = new CfnCertificateAuthority(this, "Authority", {
      type: "ROOT",
      keyAlgorithm: "EC_prime256v1",
      signingAlgorithm,
      subject: { commonName },
      usageMode: "GENERAL_PURPOSE",
    });
    authority.applyRemovalPolicy(RemovalPolicy.RETAIN);
    const root = new CfnCertificate(this, "Root", {
      certificateAuthorityArn: authority.attrArn,
      certificateSigningRequest: authority.attrCertificateSigningRequest,
      signingAlgorithm,
      templateArn: `arn:${this.partition}:acm-pca:::template/RootCACertificate/V1`,
      validity: { type: "YEARS", value: 10 },
    });
    const activation = new CfnCertificateAuthorityActivation(this, "Activation", {
      certificateAuthorityArn: authority.attrArn,
      certificate: root.attrCertificate,
      status: "ACTIVE",
    });
    activation.applyRemovalPolicy(RemovalPolicy.RETAIN);
    return authority.attrArn;
  }
}
