/** Container images of the services: scanned when they are pushed, and never changed under their tag. */
import { CfnOutput, RemovalPolicy, Stack, type StackProps } from "aws-cdk-lib";
import { Repository, RepositoryEncryption, TagMutability } from "aws-cdk-lib/aws-ecr";
import type { IKey } from "aws-cdk-lib/aws-kms";
import type { Construct } from "constructs";
import { services } from "./settings.ts";

export class RegistryStack extends Stack {
  constructor(scope: Construct, id: string, props: StackProps & { imagesKey: IKey }) {
    super(scope, id, props);
    for (const service of services) {
      new Repository(this, service, {
        repositoryName: `patient-management/${service}`,
        imageScanOnPush: true,
        imageTagMutability: TagMutability.IMMUTABLE,
        encryption: RepositoryEncryption.KMS,
        encryptionKey: props.imagesKey,
        lifecycleRules: [{ maxImageCount: 50 }],
        removalPolicy: RemovalPolicy.RETAIN,
      });
    }
    new CfnOutput(this, "Registry", { value: `${this.account}.dkr.ecr.${this.region}.${this.urlSuffix}` });
  }
}
