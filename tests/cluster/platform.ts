/** The platform in a namespace, as far as the end-to-end suite and rehearsals need one. */
import { DATABASES, PUBLIC_PORTS, SERVICES, type ServiceName } from "@pm/stack/names";
import { type Forward, forward, run, secret, until } from "./kubernetes.ts";

/** For the end-to-end suite: the one in the namespace CLUSTER_NAMESPACE. */
export const startPlatform = () => connectPlatform(process.env.CLUSTER_NAMESPACE ?? "");

export async function connectPlatform(namespace: string) {
  const forwards: Forward[] = [];
  const to = async (target: string, port: number) => {
    const opened = await forward(namespace, target, port);
    forwards.push(opened);
    return opened.url;
  };
  const gatewayUrl = await to("svc/gateway", PUBLIC_PORTS.gateway);
  const postgresUrl = new URL((await to("svc/postgres-rw", 5432)).replace("http:", "postgres:"));
  postgresUrl.username = "postgres";
  postgresUrl.password = await secret(namespace, "postgres-superuser", "password");
  const admin = { email: "admin@example.com", password: await secret(namespace, "patient-management", "admin-password") };
  const databaseOf = (name: string) => [name, { databaseUrl: Object.assign(new URL(postgresUrl), { pathname: `/${name}` }).href }];
  const serviceOf = async (name: ServiceName) => [
    name,
    { url: await to(`svc/${name}`, PUBLIC_PORTS[name]), ...workload(namespace, "deployment", name) },
  ];
  return {
    gatewayUrl,
    admin,
    secrets: { clientSecrets: { analytics: await secret(namespace, "patient-management", "analytics-client-secret") } },
    postgres: { url: postgresUrl.href },
    databases: Object.fromEntries(DATABASES.map(databaseOf)) as Record<(typeof DATABASES)[number], { databaseUrl: string }>,
    kafka: { ...workload(namespace, "statefulset", "kafka"), start: workload(namespace, "statefulset", "kafka").restart },
    services: Object.fromEntries(await Promise.all(SERVICES.map(serviceOf))) as Record<
      ServiceName,
      { url: string; kill(): Promise<void>; restart(): Promise<void> }
    >,
    async stop() {
      for (const opened of forwards) opened.close();
    },
  };
}

/** A workload that can be killed, and started again with as many pods as it had. */
function workload(namespace: string, kind: "deployment" | "statefulset", name: string) {
  let replicas = "1";
  const ask = (path: string) => run("kubectl", "-n", namespace, "get", kind, name, "-o", `jsonpath=${path}`);
  return {
    async kill(): Promise<void> {
      const wanted = await ask("{.spec.replicas}");
      if (wanted !== "0") replicas = wanted;
      await run("kubectl", "-n", namespace, "scale", kind, name, "--replicas=0");
      // One second of grace is less than any part needs to end by itself. With zero the API server would forget the pod
      // before its processes have ended.
      const pods = ["delete", "pod", "-l", `app.kubernetes.io/name=${name}`, "--grace-period=1", "--wait"];
      await run("kubectl", "-n", namespace, ...pods);
    },
    async restart(): Promise<void> {
      await run("kubectl", "-n", namespace, "scale", kind, name, `--replicas=${replicas}`);
      await until(`the pods of ${name} are ready`, 120, async () => (await ask("{.status.readyReplicas}")) === replicas);
    },
  };
}
