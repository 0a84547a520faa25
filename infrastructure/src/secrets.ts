/**
 * Passwords of the databases' roles. External Secrets brings them into the cluster: for each service it takes another
 * role, which reads only what belongs to that service.
 */
import { CfnOutput, Stack, type StackProps } from "aws-cdk-lib";
import { ArnPrincipal, type IRole, PolicyStatement, Role } from "aws-cdk-lib/aws-iam";
import type { IKey } from "aws-cdk-lib/aws-kms";
import { DatabaseSecret } from "aws-cdk-lib/aws-rds";
import type { ISecret } from "aws-cdk-lib/aws-secretsmanager";
import type { Construct } from "constructs";
import { type Settings, services } from "./settings.ts";

/** The roles of each service's database, as their Secrets are named. */
export const passwordsOf = Object.fromEntries(
  services.map((name) => [name, [name, `${name}-owner`, `${name}-anchor`, `${name}-doctor`]]),
) as Record<(typeof services)[number], string[]>;

export type SecretsProps = StackProps & { settings: Settings; dataKey: IKey; superusers: ISecret[]; externalSecrets: IRole };

export class SecretsStack extends Stack {
  constructor(scope: Construct, id: string, props: SecretsProps) {
    super(scope, id, props);
    const { settings, dataKey, superusers, externalSecrets } = props;
    const password = (role: string) =>
      new DatabaseSecret(this, `Password-${role}`, {
        username: role.replace("-", "_"),
        secretName: `${settings.name}/postgres-${role}`,
        encryptionKey: dataKey,
      });
    const read: Record<string, ISecret[]> = {
      // For the Job that makes databases and roles.
      superuser: superusers,
      ...Object.fromEntries(Object.entries(passwordsOf).map(([service, roles]) => [service, roles.map((role) => password(role))])),
    };
    new CfnOutput(this, "Region", { value: this.region });
    new CfnOutput(this, "SecretPrefix", { value: settings.name });
    for (const [owner, secrets] of Object.entries(read)) {
      const reader = new Role(this, `Reader-${owner}`, {
        roleName: `${settings.name}-secrets-${owner}`,
        assumedBy: new ArnPrincipal(externalSecrets.roleArn).withSessionTags(),
      });
      // Not grantRead: it would also let the reader use the key for whatever else the account keeps in Secrets Manager.
      reader.addToPolicy(
        new PolicyStatement({
          actions: ["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"],
          resources: secrets.map(({ secretArn }) => secretArn),
        }),
      );
      reader.addToPolicy(
        new PolicyStatement({
          actions: ["kms:Decrypt"],
          resources: [dataKey.keyArn],
          conditions: { StringEquals: { "kms:EncryptionContext:SecretARN": secrets.map(({ secretArn }) => secretArn) } },
        }),
      );
      new CfnOutput(this, `ReaderRole-${owner}`, { value: reader.roleArn });
    }
  }
}
