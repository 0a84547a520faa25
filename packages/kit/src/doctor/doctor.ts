/**
 * The command `node services/<name>/src/commands/doctor.ts [--json]`: looks at the service, its database, its brokers
 * and its certificates, from outside and without changing anything. `npm run doctor` runs that of every service.
 */
import { parseArgs } from "node:util";
import { databaseConfig, kafkaConfig, readEnvironment, serviceUrl } from "../config.ts";
import { connectionConfig } from "../postgres/database.ts";
import { inCommand } from "../telemetry/command.ts";
import { lookAtBroker, lookAtCertificateFile, lookAtPostgresCertificate } from "./certificates.ts";
import { type Look, lookAtDatabase } from "./database.ts";
import { exitCodeOf, type Finding, printFindings } from "./findings.ts";
import { lookAtGateway, lookAtService } from "./service.ts";

/** A service may have no database or no Kafka. None of these is a key or gives a right to write. */
const doctorConfig = {
  SERVICE_URL: serviceUrl,
  GATEWAY_URL: serviceUrl.optional(),
  DATABASE_URL: databaseConfig.DATABASE_URL.optional(),
  DATABASE_PASSWORD_FILE: databaseConfig.DATABASE_PASSWORD_FILE,
  DATABASE_CA_FILE: databaseConfig.DATABASE_CA_FILE,
  KAFKA_BROKERS: kafkaConfig.KAFKA_BROKERS.optional(),
  KAFKA_CA_FILE: kafkaConfig.KAFKA_CA_FILE,
  KAFKA_CERT_FILE: kafkaConfig.KAFKA_CERT_FILE,
};

/** `migrations` is the folder of the service's migrations. */
type Options = { migrations: string; also?: Look };

/** @param options of the service's database, if it has one */
async function look(service: string, options?: Options): Promise<Finding[]> {
  const config = readEnvironment(doctorConfig);
  const looks: (Finding[] | Promise<Finding | Finding[]>)[] = [lookAtService(service, config.SERVICE_URL)];
  if (config.GATEWAY_URL) looks.push(lookAtGateway(config.GATEWAY_URL));
  if (config.DATABASE_URL && options) {
    const settings = { url: config.DATABASE_URL, passwordFile: config.DATABASE_PASSWORD_FILE, caFile: config.DATABASE_CA_FILE };
    const { host = "", port = 5432 } = connectionConfig(settings);
    looks.push(lookAtDatabase({ service, settings, ...options }));
    if (settings.caFile)
      looks.push(lookAtPostgresCertificate({ host, port }), lookAtCertificateFile("authority of Postgres", settings.caFile));
  }
  for (const broker of config.KAFKA_BROKERS ?? []) looks.push(lookAtBroker(broker, config.KAFKA_CA_FILE !== undefined));
  if (config.KAFKA_CA_FILE) looks.push(lookAtCertificateFile("authority of Kafka", config.KAFKA_CA_FILE));
  if (config.KAFKA_CERT_FILE) looks.push(lookAtCertificateFile(`Kafka certificate of ${service}`, config.KAFKA_CERT_FILE));
  return (await Promise.all(looks)).flat();
}

/** Prints what is wrong, and exits with 1 if something is, with 2 if it could not look. */
export async function runDoctor(service: string, options?: Options): Promise<void> {
  try {
    const { json } = parseArgs({ options: { json: { type: "boolean", default: false } } }).values;
    const findings = await inCommand(service, "doctor", () => look(service, options), exitCodeOf);
    process.stdout.write(json ? `${JSON.stringify(findings)}\n` : printFindings(findings));
  } catch (error) {
    process.stderr.write(`doctor: ${(error as Error).message}\n`);
    process.exitCode = 2;
  }
}
