import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { connect, createServer, type TLSSocket } from "node:tls";
import fc from "fast-check";
import { expect, test } from "vitest";
import { createAuthority, issue } from "../../k8s/secrets/certificates.mts";

const now = new Date("2026-11-21T12:00:00Z");
const authority = createAuthority("kafka-cluster-ca.patients", 3650, now);

test("an authority signs itself, and its certificates are its own and nobody else's", () => {
  const root = new X509Certificate(authority.certificate);
  const leaf = new X509Certificate(issue({ commonName: "patient", hosts: [], days: 365, now }, authority).certificate);
  expect(root.ca).toBe(true);
  expect(root.verify(root.publicKey)).toBe(true);
  expect(leaf.ca).toBe(false);
  expect(leaf.checkIssued(root)).toBe(true);
  expect(leaf.verify(root.publicKey)).toBe(true);
  expect(leaf.verify(new X509Certificate(createAuthority("other", 1, now).certificate).publicKey)).toBe(false);
});

test("a certificate holds for its hosts and its days only", () => {
  const hosts = ["postgres-rw", "postgres-rw.patients.svc", "127.0.0.1"];
  const leaf = new X509Certificate(issue({ commonName: "postgres-server", hosts, days: 365, now }, authority).certificate);
  for (const host of hosts.slice(0, 2)) expect(leaf.checkHost(host)).toBe(host);
  expect(leaf.checkIP("127.0.0.1")).toBe("127.0.0.1");
  expect(leaf.checkHost("postgres-server")).toBeUndefined();
  expect(leaf.validFromDate).toEqual(new Date("2026-11-21T11:00:00Z"));
  expect(leaf.validToDate).toEqual(new Date("2027-11-21T12:00:00Z"));
});

test("names, hosts and times of any length come back as they were put in", () => {
  const name = fc.stringMatching(/^[a-z][a-z0-9-]{0,60}$/);
  const host = fc.stringMatching(/^[a-z][a-z0-9]{0,50}(\.[a-z][a-z0-9]{0,50}){0,3}$/);
  const seconds = fc.integer({ min: Date.UTC(2020, 0) / 1_000, max: Date.UTC(2060, 0) / 1_000 });
  fc.assert(
    fc.property(name, fc.uniqueArray(host, { minLength: 1, maxLength: 8 }), seconds, (commonName, hosts, second) => {
      const at = new Date(second * 1_000);
      const leaf = new X509Certificate(issue({ commonName, hosts, days: 30, now: at }, authority).certificate);
      expect(leaf.subject).toBe(`CN=${commonName}`);
      expect(leaf.subjectAltName).toBe(hosts.map((each) => `DNS:${each}`).join(", "));
      expect(leaf.validToDate.getTime()).toBe(at.getTime() + 30 * 24 * 3_600_000);
    }),
    { numRuns: 50 },
  );
});

test("two sides that show such certificates trust each other over TLS 1.3, and know who the other is", async () => {
  const today = new Date();
  const ca = createAuthority("ca", 10, today);
  const server = issue({ commonName: "kafka-broker", hosts: ["kafka-0"], days: 1, now: today }, ca);
  const client = issue({ commonName: "patient", hosts: [], days: 1, now: today }, ca);
  const listener = createServer({
    cert: server.certificate,
    key: server.key,
    ca: ca.certificate,
    requestCert: true,
    rejectUnauthorized: true,
  });
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  const { port } = listener.address() as { port: number };
  const accepted = once(listener, "secureConnection") as Promise<[TLSSocket]>;
  const socket = connect({ host: "127.0.0.1", port, servername: "kafka-0", ca: ca.certificate, cert: client.certificate, key: client.key });
  const [peer] = await accepted;
  expect(peer.getPeerCertificate().subject.CN).toBe("patient");
  expect(peer.getProtocol()).toBe("TLSv1.3");
  socket.destroy();
  peer.destroy();
  listener.close();
});
