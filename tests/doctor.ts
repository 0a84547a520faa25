/**
 * `npm run doctor [-- --json]` looks at the platform that `npm start` runs, and says in plain sentences what is wrong
 * and which document helps. Exits with 1 if something is wrong, with 2 if it could not look, with 0 if all is well.
 */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { exitCodeOf, type Finding, printFindings } from "@pm/kit/doctor/findings";
import { DATABASES, SERVICES, type ServiceName } from "@pm/stack/names";
import { localBrokers, localDatabaseUrl, localPlatform } from "./local.ts";

/** What the doctor of a service says. Its exit code follows from its findings. */
function examine(service: ServiceName): Promise<Finding[]> {
  const { ports, gatewayUrl } = localPlatform();
  const env = {
    PATH: process.env.PATH,
    SERVICE_URL: `http://127.0.0.1:${ports[service]}`,
    ...((DATABASES as readonly string[]).includes(service) && { DATABASE_URL: localDatabaseUrl(service), KAFKA_BROKERS: localBrokers() }),
    ...(service === "auth" && { GATEWAY_URL: gatewayUrl }),
  };
  const command = join(import.meta.dirname, "..", "services", service, "src/commands/doctor.ts");
  return new Promise((resolve, reject) => {
    execFile(process.execPath, [command, "--json"], { env }, (_, stdout, stderr) => {
      if (stdout === "") reject(new Error(stderr));
      else resolve(JSON.parse(stdout) as Finding[]);
    });
  });
}

try {
  const { json } = parseArgs({ options: { json: { type: "boolean", default: false } } }).values;
  const findings = (await Promise.all(SERVICES.map(examine))).flat();
  process.stdout.write(json ? `${JSON.stringify(findings)}\n` : printFindings(findings));
  process.exitCode = exitCodeOf(findings);
} catch (error) {
  process.stderr.write(`npm run doctor: ${(error as Error).message}\n`);
  process.exitCode = 2;
}
