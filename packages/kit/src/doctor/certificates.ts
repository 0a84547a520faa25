/** When certificates expire: those in files, and those that servers show. */
import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect, isIP, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { duration, type Finding, reasonOf, runbook } from "./findings.ts";

/** Long enough to act in work time. Operators of Kafka and Postgres renew at least thirty days ahead. */
const warnSeconds = 14 * 86_400;
const help = "docs/kubernetes.md (Rotate)";
const patienceMs = 5_000;

/** What is to say about a certificate. @param now a test may choose it */
function judgeCertificate(part: string, certificate: X509Certificate, now: Date): Finding {
  const day = certificate.validToDate.toISOString().slice(0, 10);
  const left = (certificate.validToDate.getTime() - now.getTime()) / 1_000;
  if (left <= 0) return { state: "wrong", part, says: `It expired ${duration(-left)} ago, on ${day}.`, help };
  if (left < warnSeconds) return { state: "wrong", part, says: `It expires in ${duration(left)}, on ${day}.`, help };
  return { state: "well", part, says: `It is valid until ${day}.` };
}

/** A file may hold several, as an authority that is being replaced does. */
export function lookAtCertificateFile(part: string, file: string, now = new Date()): Finding[] {
  try {
    const blocks = readFileSync(file, "utf8").match(/-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g);
    if (!blocks) throw new Error("there is no certificate in it");
    return blocks.map((block) => judgeCertificate(part, new X509Certificate(block), now));
  } catch (error) {
    return [{ state: "unseen", part, says: `The file cannot be read (${reasonOf(error)}).`, help }];
  }
}

type Server = { host: string; port: number };

/** Postgres speaks TLS when it has been asked to. The request is 8 bytes, and the answer is one: S or N. */
const sslRequest = Buffer.from([0, 0, 0, 8, 4, 210, 22, 47]);

/**
 * The certificate that a server shows to everybody who connects. It is looked at and not trusted, so one that has
 * expired is seen too; nothing is sent over the connection.
 */
async function certificateOf({ host, port }: Server, isPostgres: boolean): Promise<X509Certificate> {
  const socket = await open({ host, port });
  try {
    const signal = AbortSignal.timeout(patienceMs);
    if (isPostgres) {
      socket.write(sslRequest);
      const [answer] = (await once(socket, "data", { signal })) as [Buffer];
      if (answer[0] !== 83) throw new Error("it does not speak TLS");
    }
    const servername = isIP(host) ? "" : host;
    const secured = connectTls({ socket, servername, rejectUnauthorized: false });
    await once(secured, "secureConnect", { signal });
    const certificate = secured.getPeerX509Certificate();
    if (!certificate) throw new Error("it shows no certificate");
    return certificate;
  } finally {
    socket.destroy();
  }
}

async function open({ host, port }: Server): Promise<Socket> {
  const socket = connect({ host, port });
  await once(socket, "connect", { signal: AbortSignal.timeout(patienceMs) }).catch((error: unknown) => {
    socket.destroy();
    throw error;
  });
  // What goes wrong later is noticed by whoever waits for an answer.
  return socket.on("error", () => undefined);
}

/** The certificate of Postgres, or that it does not answer, which the look into the database says better. */
export async function lookAtPostgresCertificate(server: Server, now = new Date()): Promise<Finding[]> {
  const certificate = await certificateOf(server, true).catch(() => undefined);
  return certificate ? [judgeCertificate("certificate of Postgres", certificate, now)] : [];
}

/**
 * `ApiVersions`, version 0: every client of Kafka begins with it, and a broker answers it before it knows the client.
 */
const apiVersions = Buffer.from([0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 255, 255]);

/**
 * Whether a broker answers, and how long its certificate is valid. With mutual TLS, the doctor has no key to go further
 * than the handshake.
 */
export async function lookAtBroker(broker: string, isSecure: boolean, now = new Date()): Promise<Finding> {
  const { hostname: host, port } = new URL(`kafka://${broker}`);
  const server = { host, port: Number(port) };
  try {
    if (isSecure) return judgeCertificate("certificate of Kafka", await certificateOf(server, false), now);
    const socket = await open(server);
    try {
      socket.write(apiVersions);
      await once(socket, "data", { signal: AbortSignal.timeout(patienceMs) });
    } finally {
      socket.destroy();
    }
    return { state: "well", part: "Kafka", says: `It answers at ${broker}.` };
  } catch (error) {
    return { state: "wrong", part: "Kafka", says: `It does not answer at ${broker} (${reasonOf(error)}).`, help: runbook("OutboxStuck") };
  }
}
