import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { startEnvoy } from "../src/native/envoy.ts";
import { freePort } from "../src/programs/ports.ts";

const folder = mkdtempSync(join(tmpdir(), "pm-envoy-test-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A gateway in front of one service. */
const TEMPLATE = `
admin: { address: { socket_address: { address: "\${ADMIN_ADDRESS}", port_value: \${ADMIN_PORT} } } }
static_resources:
  listeners:
    - address: { socket_address: { address: "\${ADDRESS}", port_value: \${PORT} } }
      filter_chains:
        - filters:
            - name: http
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: in
                route_config: { virtual_hosts: [{ name: all, domains: ["*"], routes: [{ match: { prefix: / }, route: { cluster: service } }] }] }
                http_filters:
                  - name: router
                    typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
  clusters:
    - name: service
      type: STRICT_DNS
      load_assignment:
        cluster_name: service
        endpoints: [{ lb_endpoints: [{ endpoint: { address: { socket_address: { address: "\${SERVICE_HOST}", port_value: \${SERVICE_PORT} } } } }] }]
`;

function template(text: string): string {
  const path = join(folder, "envoy.yaml");
  writeFileSync(path, text);
  return path;
}

test("Envoy passes requests to a service of this machine, and again after a kill and a start", { timeout: 600_000 }, async () => {
  const service = createServer((request, response) => response.end(`hello ${request.url}`));
  await once(service.listen(0, "127.0.0.1"), "listening");
  const { port: servicePort } = service.address() as { port: number };
  const [port, adminPort] = [await freePort(), await freePort()];
  const ports = { ADDRESS: "127.0.0.1", PORT: String(port), ADMIN_ADDRESS: "127.0.0.1", ADMIN_PORT: String(adminPort) };
  const variables = { ...ports, SERVICE_HOST: "127.0.0.1", SERVICE_PORT: String(servicePort) };
  const envoy = await startEnvoy({ template: template(TEMPLATE), variables, port, adminPort });
  expect(await (await fetch(`${envoy.url}/x`)).text()).toBe("hello /x");
  await envoy.kill();
  await expect(fetch(`${envoy.url}/x`)).rejects.toThrow();
  await envoy.start();
  expect(await (await fetch(`${envoy.url}/y`)).text()).toBe("hello /y");
  await envoy.stop();
  service.close();
});

test("a configuration that is not valid is shown with what is wrong in it", { timeout: 600_000 }, async () => {
  const wrong = template("static_resources: { clusterz: [] }\nadmin: {}");
  await expect(startEnvoy({ template: wrong, variables: {}, port: 1, adminPort: await freePort() })).rejects.toThrow(/clusterz/);
});
