/** A network over three zones: load balancers in public subnets, nodes in private ones, databases in isolated ones. */
import { CfnOutput, RemovalPolicy, Stack, type StackProps } from "aws-cdk-lib";
import {
  FlowLogDestination,
  GatewayVpcEndpointAwsService,
  IpAddresses,
  type ISubnet,
  type IVpc,
  Peer,
  Port,
  SecurityGroup,
  InterfaceVpcEndpointAwsService as Service,
  SubnetType,
  Vpc,
} from "aws-cdk-lib/aws-ec2";
import type { IKey } from "aws-cdk-lib/aws-kms";
import { LogGroup, RetentionDays } from "aws-cdk-lib/aws-logs";
import type { Construct } from "constructs";
import { profiles, type Settings } from "./settings.ts";

const services = {
  EcrApi: Service.ECR,
  EcrImages: Service.ECR_DOCKER,
  Sts: Service.STS,
  Logs: Service.CLOUDWATCH_LOGS,
  Secrets: Service.SECRETS_MANAGER,
};
/** Without a NAT gateway, nodes and add-ons reach these only here. */
const servicesWithoutNat = { Ec2: Service.EC2, Eks: Service.EKS, EksAuth: Service.EKS_AUTH, LoadBalancers: Service.ELASTIC_LOAD_BALANCING };

export class NetworkStack extends Stack {
  readonly vpc: IVpc;
  readonly nodeSubnets: ISubnet[];
  private readonly zones: string[];

  constructor(scope: Construct, id: string, props: StackProps & { settings: Settings; logsKey: IKey }) {
    super(scope, id, props);
    const { settings, logsKey } = props;
    const profile = profiles[settings.profile];
    this.zones = settings.zones;
    const vpc = new Vpc(this, "Vpc", {
      ipAddresses: IpAddresses.cidr(settings.cidr),
      availabilityZones: settings.zones,
      natGateways: settings.nat ? profile.natGateways : 0,
      subnetConfiguration: [
        { name: "public", subnetType: SubnetType.PUBLIC, mapPublicIpOnLaunch: false, cidrMask: 24 },
        { name: "nodes", subnetType: settings.nat ? SubnetType.PRIVATE_WITH_EGRESS : SubnetType.PRIVATE_ISOLATED, cidrMask: 22 },
        { name: "databases", subnetType: SubnetType.PRIVATE_ISOLATED, cidrMask: 24 },
      ],
      gatewayEndpoints: { S3: { service: GatewayVpcEndpointAwsService.S3 } },
    });
    // A Vpc is an IVpc, but not by the letter of exactOptionalPropertyTypes.
    this.vpc = vpc as IVpc;
    this.nodeSubnets = vpc.selectSubnets({ subnetGroupName: "nodes" }).subnets;

    const endpoints = {
      ...(profile.privateEndpoints || !settings.nat ? services : {}),
      ...(settings.nat ? {} : servicesWithoutNat),
    };
    const callers = new SecurityGroup(this, "EndpointCallers", { vpc: this.vpc, allowAllOutbound: false });
    callers.addIngressRule(Peer.ipv4(settings.cidr), Port.tcp(443), "From this network");
    for (const [name, service] of Object.entries(endpoints))
      vpc.addInterfaceEndpoint(name, { service, subnets: { subnets: this.nodeSubnets }, securityGroups: [callers], open: false });

    const logGroup = new LogGroup(this, "FlowLogs", {
      encryptionKey: logsKey,
      retention: RetentionDays.ONE_YEAR,
      removalPolicy: RemovalPolicy.RETAIN,
    });
    vpc.addFlowLog("FlowLog", { destination: FlowLogDestination.toCloudWatchLogs(logGroup) });

    const databases = vpc.selectSubnets({ subnetGroupName: "databases" }).subnets;
    new CfnOutput(this, "DatabaseNetworks", { value: databases.map(({ ipv4CidrBlock }) => ipv4CidrBlock).join(",") });
  }

  /** A Vpc compares its zones with those of its stack, which CDK would look up in the account. */
  override get availabilityZones(): string[] {
    return this.zones;
  }
}
