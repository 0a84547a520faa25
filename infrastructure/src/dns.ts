/**
 * The certificate of the gateway's host. External DNS writes the record, as soon as the load balancer has an address.
 */
import { CfnOutput, Stack, type StackProps } from "aws-cdk-lib";
import { Certificate, CertificateValidation, KeyAlgorithm } from "aws-cdk-lib/aws-certificatemanager";
import { HostedZone } from "aws-cdk-lib/aws-route53";
import type { Construct } from "constructs";
import type { Settings } from "./settings.ts";

export class DnsStack extends Stack {
  constructor(scope: Construct, id: string, props: StackProps & { settings: Settings }) {
    super(scope, id, props);
    const { domain, hostedZoneId, host } = props.settings;
    const zone = HostedZone.fromHostedZoneAttributes(this, "Zone", { hostedZoneId, zoneName: domain });
    const certificate = new Certificate(this, "Certificate", {
      domainName: host,
      validation: CertificateValidation.fromDns(zone),
      keyAlgorithm: KeyAlgorithm.EC_PRIME256V1,
    });
    new CfnOutput(this, "Host", { value: host });
    new CfnOutput(this, "CertificateArn", { value: certificate.certificateArn });
  }
}
