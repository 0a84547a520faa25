/**
 * PostgreSQL: one instance for all services, or one for each. The Job of k8s/rds makes the databases and their roles,
 * so no service has the password of an instance.
 */
import { CfnOutput, Duration, RemovalPolicy, Stack, type StackProps } from "aws-cdk-lib";
import { type IConnectable, InstanceType, type IVpc, Port } from "aws-cdk-lib/aws-ec2";
import type { IKey } from "aws-cdk-lib/aws-kms";
import { LogGroup, RetentionDays } from "aws-cdk-lib/aws-logs";
import {
  CaCertificate,
  Credentials,
  DatabaseInsightsMode,
  DatabaseInstance,
  DatabaseInstanceEngine,
  ParameterGroup,
  PostgresEngineVersion,
  StorageType,
} from "aws-cdk-lib/aws-rds";
import type { Construct } from "constructs";
import { profiles, type Settings, services } from "./settings.ts";

export type DataProps = StackProps & { settings: Settings; vpc: IVpc; clients: IConnectable; dataKey: IKey; logsKey: IKey };

export class DataStack extends Stack {
  readonly instances: DatabaseInstance[];

  constructor(scope: Construct, id: string, props: DataProps) {
    super(scope, id, props);
    const { settings, vpc, clients, dataKey, logsKey } = props;
    const profile = profiles[settings.profile];
    const engine = DatabaseInstanceEngine.postgres({ version: PostgresEngineVersion.VER_18 });
    const parameterGroup = new ParameterGroup(this, "Parameters", {
      engine,
      parameters: {
        "rds.force_ssl": "1",
        ssl_min_protocol_version: "TLSv1.2",
        // Parameters of statements, and the rows that an error shows, are personal data.
        log_error_verbosity: "terse",
        log_parameter_max_length: "0",
        log_parameter_max_length_on_error: "0",
        log_connections: "all",
        log_disconnections: "1",
      },
    });
    const addInstance = (suffix: string) => {
      // Otherwise RDS makes these two, without the key and for ever.
      const logs = ["postgresql", "upgrade"].map(
        (name) =>
          new LogGroup(this, `Log${suffix}-${name}`, {
            logGroupName: `/aws/rds/instance/${settings.name}${suffix}/${name}`,
            encryptionKey: logsKey,
            retention: RetentionDays.ONE_YEAR,
            removalPolicy: RemovalPolicy.RETAIN,
          }),
      );
      const instance = new DatabaseInstance(this, `Postgres${suffix}`, {
        instanceIdentifier: `${settings.name}${suffix}`,
        engine,
        parameterGroup,
        instanceType: new InstanceType(profile.databaseType),
        vpc,
        vpcSubnets: { subnetGroupName: "databases" },
        publiclyAccessible: false,
        multiAz: profile.multiAz,
        credentials: Credentials.fromGeneratedSecret("postgres", {
          secretName: `${settings.name}/postgres-superuser${suffix}`,
          encryptionKey: dataKey,
        }),
        caCertificate: CaCertificate.RDS_CA_RSA2048_G1,
        storageType: StorageType.GP3,
        allocatedStorage: profile.databaseGiB,
        maxAllocatedStorage: profile.maxDatabaseGiB,
        storageEncrypted: true,
        storageEncryptionKey: dataKey,
        backupRetention: Duration.days(profile.backupDays),
        copyTagsToSnapshot: true,
        deleteAutomatedBackups: false,
        deletionProtection: true,
        removalPolicy: RemovalPolicy.SNAPSHOT,
        autoMinorVersionUpgrade: true,
        cloudwatchLogsExports: ["postgresql", "upgrade"],
        monitoringInterval: Duration.minutes(1),
        databaseInsightsMode: DatabaseInsightsMode.STANDARD,
        enablePerformanceInsights: true,
        performanceInsightEncryptionKey: dataKey,
      });
      instance.node.addDependency(...logs);
      instance.connections.allowFrom(clients, Port.tcp(5432), "Pods of the cluster");
      new CfnOutput(this, `PostgresHost${suffix}`, { value: instance.dbInstanceEndpointAddress });
      return instance;
    };
    this.instances = settings.databases === "shared" ? [addInstance("")] : services.map((service) => addInstance(`-${service}`));
  }
}
