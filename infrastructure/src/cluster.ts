/**
 * The cluster: its API answers inside the network only, and only to the role of the settings. Add-ons get their rights
 * by Pod Identity. Everything here is made by CloudFormation itself; no custom resource runs code in the account.
 */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { CfnOutput, RemovalPolicy, Stack, type StackProps, Validations } from "aws-cdk-lib";
import { BlockDeviceVolume, EbsDeviceVolumeType, InstanceType, type ISubnet, type IVpc, LaunchTemplate } from "aws-cdk-lib/aws-ec2";
import * as eks from "aws-cdk-lib/aws-eks-v2";
import { ManagedPolicy, PolicyDocument, PolicyStatement, Role, ServicePrincipal } from "aws-cdk-lib/aws-iam";
import type { IKey } from "aws-cdk-lib/aws-kms";
import { LogGroup, RetentionDays } from "aws-cdk-lib/aws-logs";
import type { Construct } from "constructs";
import { associate, podRole } from "./pods.ts";
import { profiles, type Settings } from "./settings.ts";

/** The policy that the AWS Load Balancer Controller publishes with its release, as the CDK brings it. */
const loadBalancerPolicy = new URL("lib/addons/alb-iam_policy-v3.2.2.json", import.meta.resolve("aws-cdk-lib/aws-eks-v2"));

export type ClusterProps = StackProps & { settings: Settings; vpc: IVpc; nodeSubnets: ISubnet[]; secretsKey: IKey; logsKey: IKey };

export class ClusterStack extends Stack {
  readonly cluster: eks.Cluster;
  /** The role of External Secrets. It reads nothing itself; the secrets stack says which roles it takes. */
  readonly externalSecrets: Role;

  constructor(scope: Construct, id: string, props: ClusterProps) {
    super(scope, id, props);
    const { settings, vpc, nodeSubnets, secretsKey, logsKey } = props;
    // Otherwise EKS makes it, without the key and for ever.
    const logs = new LogGroup(this, "Logs", {
      logGroupName: `/aws/eks/${settings.name}/cluster`,
      encryptionKey: logsKey,
      retention: RetentionDays.ONE_YEAR,
      removalPolicy: RemovalPolicy.RETAIN,
    });
    this.cluster = new eks.Cluster(this, "Cluster", {
      clusterName: settings.name,
      version: eks.KubernetesVersion.V1_36,
      vpc,
      vpcSubnets: [{ subnets: nodeSubnets }],
      endpointAccess: eks.EndpointAccess.PRIVATE,
      secretsEncryptionKey: secretsKey,
      clusterLogging: Object.values(eks.ClusterLoggingTypes),
      defaultCapacityType: eks.DefaultCapacityType.NODEGROUP,
      defaultCapacity: 0,
      bootstrapClusterCreatorAdminPermissions: false,
      bootstrapSelfManagedAddons: false,
      outputConfigCommand: false,
    });
    this.cluster.node.addDependency(logs);
    Validations.of(this.cluster).acknowledge({
      id: "CloudFormation-Validate::W9009",
      reason: "The CDK's own construct writes this property, which EKS still reads.",
    });
    this.cluster.grantClusterAdmin("Admins", settings.adminRoleArn);

    // Nodes are ready only with a network, so these come first. It enforces the NetworkPolicies of the chart.
    const { clusterName } = this.cluster;
    const system = (account: string) => ({ clusterName, namespace: "kube-system", account });
    const network = this.addOn("vpc-cni", {
      role: podRole(this, "Network", system("aws-node"), { managed: "AmazonEKS_CNI_Policy" }),
      account: "aws-node",
      configuration: { enableNetworkPolicy: "true" },
    });
    const before = [network, this.addOn("kube-proxy"), this.addOn("eks-pod-identity-agent")];
    const nodes = this.addNodes(settings, nodeSubnets);
    for (const addOn of before) nodes.node.addDependency(addOn);

    const volumes = podRole(this, "Volumes", system("ebs-csi-controller-sa"), { managed: "service-role/AmazonEBSCSIDriverPolicy" });
    const ofNames = { clusterName, namespace: "external-dns", account: "external-dns" };
    const names = podRole(this, "Names", ofNames, { statements: hostedZoneRights(this, settings.hostedZoneId) });
    const after = [
      this.addOn("coredns"),
      this.addOn("metrics-server"),
      this.addOn("aws-ebs-csi-driver", { role: volumes, account: "ebs-csi-controller-sa" }),
      this.addOn("external-dns", {
        role: names,
        account: "external-dns",
        configuration: { domainFilters: [settings.domain], policy: "sync", txtOwnerId: settings.name },
      }),
    ];
    for (const addOn of after) addOn.node.addDependency(nodes);

    // Helm installs these two (docs/aws.md), so the cluster says here which role their service accounts have.
    const controller = system("aws-load-balancer-controller");
    const loadBalancers = podRole(this, "LoadBalancers", controller, {
      document: PolicyDocument.fromJson(JSON.parse(readFileSync(fileURLToPath(loadBalancerPolicy), "utf8"))),
    });
    associate(this, controller, loadBalancers);
    const secrets = { clusterName, namespace: "external-secrets", account: "external-secrets" };
    this.externalSecrets = podRole(this, "ExternalSecrets", secrets, {});
    associate(this, secrets, this.externalSecrets);

    new CfnOutput(this, "ClusterName", { value: this.cluster.clusterName });
  }

  private addNodes(settings: Settings, subnets: ISubnet[]): eks.Nodegroup {
    const profile = profiles[settings.profile];
    const template = new LaunchTemplate(this, "NodeTemplate", {
      requireImdsv2: true,
      // Pods cannot reach the credentials of their node, only those of their Pod Identity.
      httpPutResponseHopLimit: 1,
      blockDevices: [
        { deviceName: "/dev/xvda", volume: BlockDeviceVolume.ebs(50, { encrypted: true, volumeType: EbsDeviceVolumeType.GP3 }) },
      ],
    });
    const role = new Role(this, "NodeRole", {
      assumedBy: new ServicePrincipal("ec2.amazonaws.com"),
      managedPolicies: ["AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly"].map((name) =>
        ManagedPolicy.fromAwsManagedPolicyName(name),
      ),
    });
    return this.cluster.addNodegroupCapacity("Nodes", {
      subnets: { subnets },
      nodeRole: role,
      amiType: eks.NodegroupAmiType.AL2023_ARM_64_STANDARD,
      instanceTypes: [new InstanceType(profile.nodeType)],
      minSize: profile.nodes,
      desiredSize: profile.nodes,
      maxSize: profile.maxNodes,
      maxUnavailable: 1,
      // An upgrade waits for PodDisruptionBudgets.
      forceUpdate: false,
      enableNodeAutoRepair: true,
      launchTemplateSpec: { id: template.launchTemplateId ?? "", version: template.latestVersionNumber },
    });
  }

  /** The construct of an add-on that the CDK has cannot give it a role. */
  private addOn(addonName: string, options: { role?: Role; account?: string; configuration?: object } = {}): eks.CfnAddon {
    const { role, account, configuration } = options;
    return new eks.CfnAddon(this, `AddOn-${addonName}`, {
      addonName,
      clusterName: this.cluster.clusterName,
      resolveConflicts: "OVERWRITE",
      ...(role && account && { podIdentityAssociations: [{ serviceAccount: account, roleArn: role.roleArn }] }),
      ...(configuration && { configurationValues: JSON.stringify(configuration) }),
    });
  }
}

/** External DNS may write in the platform's zone only; the two questions have no narrower resource. */
function hostedZoneRights(stack: Stack, hostedZoneId: string): PolicyStatement[] {
  const zone = stack.formatArn({ service: "route53", region: "", account: "", resource: "hostedzone", resourceName: hostedZoneId });
  return [
    new PolicyStatement({
      actions: ["route53:ChangeResourceRecordSets", "route53:ListResourceRecordSets", "route53:ListTagsForResources"],
      resources: [zone],
    }),
    new PolicyStatement({ actions: ["route53:ListHostedZones"], resources: ["*"] }),
  ];
}
