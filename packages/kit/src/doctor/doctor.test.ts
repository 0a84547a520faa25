import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createServer as createTlsServer } from "node:tls";
import { afterAll, expect, test } from "vitest";
import { createAuthority, issue } from "../../../../k8s/secrets/certificates.mts";
import { lookAtBroker, lookAtCertificateFile, lookAtPostgresCertificate } from "./certificates.ts";
import { duration, exitCodeOf, type Finding, printFindings } from "./findings.ts";
import { readSamples } from "./samples.ts";
import { judge, judgeTogether } from "./service.ts";

const folder = mkdtempSync(join(tmpdir(), "pm-doctor-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const finding = (state: Finding["state"], says = "It is."): Finding => ({ state, part: "patient", says });

test("the exit code is 1 if something is wrong, 2 if something was not seen, and 0 if all is well", () => {
  expect(exitCodeOf([finding("well"), finding("unseen"), finding("wrong")])).toBe(1);
  expect(exitCodeOf([finding("well"), finding("unseen")])).toBe(2);
  expect(exitCodeOf([finding("well")])).toBe(0);
});

test("the worst is printed first, with the document that helps, and what several found is said once", () => {
  const wrong: Finding = { state: "wrong", part: "Kafka", says: "It does not answer.", help: "docs/runbooks/OutboxStuck.md" };
  expect(printFindings([finding("well"), wrong, finding("unseen"), wrong]).split("\n")).toEqual([
    "wrong   Kafka: It does not answer.",
    "        Read docs/runbooks/OutboxStuck.md.",
    "unseen  patient: It is.",
    "well    patient: It is.",
    "",
  ]);
});

test("a time is told in the largest unit that fits", () => {
  expect([1, 59, 60, 7_200, 86_400 * 3].map(duration)).toEqual(["1 second", "59 seconds", "1 minute", "2 hours", "3 days"]);
});

test("samples are read with braces and quotes in their labels, and without examples and comments", () => {
  const text = `# HELP a_total Requests
a_total{route="/patients/{id}",says="\\"no\\""} 3 # {trace_id="0a"} 0.1 1.5
b 0.5
# EOF`;
  expect(readSamples(text)).toEqual([
    { name: "a_total", labels: { route: "/patients/{id}", says: '"no"' }, value: 3 },
    { name: "b", labels: {}, value: 0.5 },
  ]);
});

test("of the partitions of a topic the worst is told, and every circuit breaker that is open", () => {
  const text = `consumer_lag_seconds{group="analytics",topic="patient.v1",partition="0"} 70
consumer_lag_seconds{group="analytics",topic="patient.v1",partition="1"} 720
consumer_lag_seconds{group="analytics",topic="billing.v1",partition="1"} 3
circuit_breaker_open{target="billing"} 1
circuit_breaker_open{target="auth"} 0
consumer_dead_letters_waiting{group="analytics"} 1
outbox_oldest_seconds 59`;
  expect(judge("analytics", readSamples(text)).map(({ says }) => says)).toEqual([
    "The consumer group analytics is 12 minutes behind in patient.v1.",
    "One event waits that the consumer group analytics could not apply.",
    "It has stopped calling billing, because calls failed.",
  ]);
});

test("a comparison is overdue if no replica of the service has made it, and then by the smallest time of all", () => {
  const pods = (...seconds: number[]) => seconds.map((value) => readSamples(`reconciliation_overdue_seconds ${value}`));
  expect(judgeTogether("billing", pods(10_800, 7_800, 90_000))).toEqual([
    {
      ...{ state: "wrong", part: "billing", help: "docs/runbooks/ReconciliationOverdue.md" },
      says: "A comparison with other services has been overdue for 2 hours.",
    },
  ]);
  expect(judgeTogether("billing", pods(10_800, 0))).toEqual([]);
  expect(judgeTogether("auth", [[], []])).toEqual([]);
});

test("every document that it names exists", () => {
  const root = resolve(import.meta.dirname, "../../../..");
  const texts = readdirSync(import.meta.dirname)
    .filter((file) => !file.endsWith(".test.ts"))
    .map((file) => readFileSync(join(import.meta.dirname, file), "utf8"))
    .join("\n");
  const runbooks = [...texts.matchAll(/runbook\("(\w+)"\)|, "([A-Z]\w+)"\)/g)].map(([, a, b]) => `docs/runbooks/${a ?? b}.md`);
  const documents = [...texts.matchAll(/"(docs\/[\w./-]+\.md)/g)].map(([, path = ""]) => path);
  expect(runbooks.length).toBeGreaterThan(8);
  expect([...runbooks, ...documents].filter((path) => !existsSync(join(root, path)))).toEqual([]);
});

const now = new Date("2026-11-28T12:00:00Z");
const authority = createAuthority("kafka-cluster-ca.patients", 3_650, new Date("2020-01-01"));
const madeOn = (day: string) => issue({ commonName: "patient", hosts: ["127.0.0.1"], days: 365, now: new Date(day) }, authority);

test("a certificate that has expired or soon will is told by its day, and a bundle is looked at as a whole", () => {
  const file = join(folder, "bundle.pem");
  writeFileSync(file, ["2025-11-18", "2025-12-05", "2026-11-01"].map((day) => madeOn(day).certificate).join("\n"));
  expect(lookAtCertificateFile("Kafka certificate of patient", file, now).map(({ state, says }) => [state, says])).toEqual([
    ["wrong", "It expired 11 days ago, on 2026-11-18."],
    ["wrong", "It expires in 7 days, on 2026-12-05."],
    ["well", "It is valid until 2027-11-01."],
  ]);
  expect(lookAtCertificateFile("x", join(folder, "none.pem"))[0]).toMatchObject({
    state: "unseen",
    says: "The file cannot be read (ENOENT).",
  });
});

/** Listens on a free port until the test ends. */
async function listening(server: ReturnType<typeof createServer>): Promise<number> {
  afterAll(() => void server.close());
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  return (server.address() as { port: number }).port;
}

test("a broker shows its certificate before it asks for one, also when it has expired", async () => {
  const { certificate: cert, key } = madeOn("2024-11-18");
  const options = { cert, key, ca: authority.certificate, requestCert: true, rejectUnauthorized: true };
  const port = await listening(createTlsServer(options));
  expect(await lookAtBroker(`127.0.0.1:${port}`, true, now)).toMatchObject({
    state: "wrong",
    part: "certificate of Kafka",
    says: "It expired 376 days ago, on 2025-11-18.",
  });
});

test("a broker that accepts connections and answers nothing is not well", { timeout: 20_000 }, async () => {
  const port = await listening(createServer(() => undefined));
  const { state, says } = await lookAtBroker(`127.0.0.1:${port}`, false);
  expect([state, says]).toEqual(["wrong", `It does not answer at 127.0.0.1:${port} (ABORT_ERR).`]);
});

test("Postgres is asked for TLS in its own words, and shows its certificate", async () => {
  const { certificate: cert, key } = madeOn("2025-12-05");
  const secured = createTlsServer({ cert, key });
  const port = await listening(
    createServer((socket) => {
      socket.once("data", (request) => {
        if (!request.equals(Buffer.from([0, 0, 0, 8, 4, 210, 22, 47]))) return socket.destroy();
        socket.write("S");
        secured.emit("connection", socket);
      });
    }),
  );
  expect(await lookAtPostgresCertificate({ host: "127.0.0.1", port }, now)).toMatchObject([
    { says: "It expires in 7 days, on 2026-12-05." },
  ]);
});
