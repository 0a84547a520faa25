/**
 * The ground under the chart, on AWS: `cdk deploy --all -c settings=my-clinic.json` makes all of it. See docs/aws.md.
 */
import { App, Tags } from "aws-cdk-lib";
import { BucketsStack } from "./buckets.ts";
import { ClusterStack } from "./cluster.ts";
import { DataStack } from "./data.ts";
import { DnsStack } from "./dns.ts";
import { KafkaStack } from "./kafka.ts";
import { KeysStack } from "./keys.ts";
import { NetworkStack } from "./network.ts";
import { RegistryStack } from "./registry.ts";
import { SecretsStack } from "./secrets.ts";
import { readSettings, type Settings } from "./settings.ts";

/** All stacks, by name: `<name>-network` and so on. */
export function addStacks(app: App, settings: Settings) {
  const { account, region, name } = settings;
  const props = { settings, env: { account, region }, terminationProtection: true };
  const keys = new KeysStack(app, `${name}-keys`, props);
  const network = new NetworkStack(app, `${name}-network`, { ...props, logsKey: keys.logs });
  const { vpc, nodeSubnets } = network;
  const cluster = new ClusterStack(app, `${name}-cluster`, { ...props, vpc, nodeSubnets, secretsKey: keys.cluster, logsKey: keys.logs });
  const data = new DataStack(app, `${name}-data`, {
    ...props,
    vpc,
    clients: cluster.cluster.clusterSecurityGroup,
    dataKey: keys.data,
    logsKey: keys.logs,
  });
  const kafka =
    settings.kafka === "strimzi"
      ? {}
      : {
          kafka: new KafkaStack(app, `${name}-kafka`, {
            ...props,
            vpc,
            nodeSubnets,
            clusterName: cluster.cluster.clusterName,
            clients: cluster.cluster.clusterSecurityGroup,
            dataKey: keys.data,
            logsKey: keys.logs,
          }),
        };
  const secrets = new SecretsStack(app, `${name}-secrets`, {
    ...props,
    dataKey: keys.data,
    superusers: data.instances.flatMap(({ secret }) => secret ?? []),
    externalSecrets: cluster.externalSecrets,
  });
  const registry = new RegistryStack(app, `${name}-registry`, { ...props, imagesKey: keys.images });
  const dns = new DnsStack(app, `${name}-dns`, props);
  const buckets = new BucketsStack(app, `${name}-buckets`, { ...props, dataKey: keys.data });
  Tags.of(app).add("platform", name);
  return { keys, network, cluster, data, ...kafka, secrets, registry, dns, buckets };
}

if (import.meta.main) {
  const app = new App();
  addStacks(app, readSettings(app.node.tryGetContext("settings") ?? `${import.meta.dirname}/../settings.example.json`));
  app.synth();
}
