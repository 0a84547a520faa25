/** Revocations over a real Kafka, with and without auth's snapshot. */
import { randomUUID } from "node:crypto";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { AuthEventSchema, RevocationReason } from "@pm/proto/auth/v1/events";
import { testKafka } from "@pm/stack/testing";
import { afterEach, beforeAll, expect, test } from "vitest";
import type { RevocationSnapshot } from "../src/auth/revocation-list.ts";
import { followRevocations } from "../src/auth/revocations.ts";
import type { Bearer } from "../src/auth/verifier.ts";
import { createKafka, createSender, type Kafka } from "../src/kafka/client.ts";
import type { Lifecycle } from "../src/lifecycle.ts";
import { createLogger } from "../src/log.ts";

const log = createLogger("test", "silent");
const closers: (() => unknown)[] = [];
let kafka: Kafka;
let freshTopic: (base: string) => Promise<string>;
beforeAll(async () => {
  const shared = await testKafka();
  kafka = createKafka({ clientId: "test", brokers: shared.brokers }, log);
  freshTopic = shared.freshTopic;
});
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

const noKafka = createKafka({ clientId: "test", brokers: ["127.0.0.1:1"] }, log);
const authIsDown = () => Promise.reject(new Error("auth is down"));

function follow(options: { kafka: Kafka; topic: string; fetchSnapshot: () => Promise<RevocationSnapshot> }) {
  const checks: (() => Promise<boolean> | boolean)[] = [];
  const lifecycle: Lifecycle = {
    onClose: (_, close) => closers.push(close),
    onReady: (_, check) => checks.push(check),
    notReady: async () => [],
    shutdown: async () => undefined,
  };
  const revocations = followRevocations({ service: "test", log, lifecycle, ...options });
  const isReady = async () => (await Promise.all(checks.map((check) => check()))).every(Boolean);
  return { ...revocations, isReady };
}

type Event = NonNullable<MessageInitShape<typeof AuthEventSchema>["event"]>;
async function publish(topic: string, events: { event: Event; at?: number }[]): Promise<void> {
  const sender = createSender(kafka);
  const messages = events.map(({ event, at = Date.now() }) => ({
    key: randomUUID(),
    value: Buffer.from(toBinary(AuthEventSchema, create(AuthEventSchema, { occurredAt: timestampFromMs(at), event }))),
    headers: {},
  }));
  await sender.send([{ topic, messages }]);
  await sender.close();
}
const ended = (sessionId: string, until = Date.now() + 300_000): Event => ({
  case: "sessionRevoked",
  value: { sessionId, userId: "u", tokensExpireAt: timestampFromMs(until), reason: RevocationReason.LOGOUT },
});
const asks = (sessionId: string, userId = "somebody", issuedAt = Date.now() / 1_000): Bearer => ({
  sessionId,
  userId,
  issuedAt,
});

test("a process that starts while auth is down knows from the topic's beginning which sessions have ended", async () => {
  const topic = await freshTopic("auth.v1");
  await publish(topic, [{ event: ended("before") }, { event: ended("long ago", Date.now() - 1) }]);
  const { isRevoked, isReady } = follow({ kafka, topic, fetchSnapshot: authIsDown });
  await expect.poll(isReady, { timeout: 20_000 }).toBe(true);
  expect(isRevoked(asks("before"))).toBe(true);
  expect(isRevoked(asks("long ago"))).toBe(false);
  expect(isRevoked(asks("another"))).toBe(false);

  const published = performance.now();
  await publish(topic, [{ event: ended("now") }]);
  await expect.poll(() => isRevoked(asks("now")), { timeout: 5_000, interval: 5 }).toBe(true);
  expect(performance.now() - published).toBeLessThan(1_000);
});

test("an empty topic is enough to be ready", async () => {
  const { isReady } = follow({ kafka, topic: await freshTopic("auth.v1"), fetchSnapshot: authIsDown });
  await expect.poll(isReady, { timeout: 20_000 }).toBe(true);
});

test("a process is ready although Kafka does not say at once where the topic ends", async () => {
  let failures = 2;
  const admin = () => {
    if (failures-- > 0) throw new Error("the leader has moved");
    return kafka.admin();
  };
  const { isReady } = follow({
    kafka: Object.assign(Object.create(kafka), { admin }),
    topic: await freshTopic("auth.v1"),
    fetchSnapshot: authIsDown,
  });
  await expect.poll(isReady, { timeout: 20_000 }).toBe(true);
  expect(failures).toBeLessThan(0);
});

test("of a disabled user the tokens of before are refused, and those of later are not", async () => {
  const topic = await freshTopic("auth.v1");
  const at = Date.now();
  const value = { userId: "u", tokensExpireAt: timestampFromMs(at + 300_000) };
  await publish(topic, [{ event: { case: "userDisabled", value }, at }]);
  const { isRevoked, isReady } = follow({ kafka, topic, fetchSnapshot: authIsDown });
  await expect.poll(isReady, { timeout: 20_000 }).toBe(true);
  expect(isRevoked(asks("s", "u", at / 1_000 - 2))).toBe(true);
  expect(isRevoked(asks("s", "u", at / 1_000 + 2))).toBe(false);
  expect(isRevoked(asks("s", "v", at / 1_000 - 2))).toBe(false);
});

test("an event that cannot be read holds up nobody", async () => {
  const topic = await freshTopic("auth.v1");
  const sender = createSender(kafka);
  await sender.send([{ topic, messages: [{ key: "k", value: Buffer.from([255, 255, 255]), headers: {} }] }]);
  await sender.close();
  await publish(topic, [{ event: ended("after") }]);
  const { isRevoked, isReady } = follow({ kafka, topic, fetchSnapshot: authIsDown });
  await expect.poll(isReady, { timeout: 20_000 }).toBe(true);
  expect(isRevoked(asks("after"))).toBe(true);
});

test("a process that starts while Kafka is down knows it from auth's snapshot", async () => {
  const until = Date.now() + 300_000;
  const fetchSnapshot = async () => ({
    sessions: [{ id: "before", until }],
    users: [{ id: "u", issuedBefore: Date.now() / 1_000, until }],
  });
  const { isRevoked, isReady } = follow({ kafka: noKafka, topic: "auth.v1", fetchSnapshot });
  await expect.poll(isReady, { timeout: 5_000 }).toBe(true);
  expect(isRevoked(asks("before"))).toBe(true);
  expect(isRevoked(asks("another", "u", Date.now() / 1_000 - 60))).toBe(true);
  expect(isRevoked(asks("another"))).toBe(false);
});

test("while both are down nothing is known: not ready, and every token is refused as unavailable", async () => {
  let snapshot: () => Promise<RevocationSnapshot> = authIsDown;
  const { isRevoked, isReady } = follow({ kafka: noKafka, topic: "auth.v1", fetchSnapshot: () => snapshot() });
  expect(await isReady()).toBe(false);
  expect(() => isRevoked(asks("any"))).toThrow(expect.objectContaining({ code: "unavailable" }));
  snapshot = async () => ({ sessions: [], users: [] });
  await expect.poll(isReady, { timeout: 5_000 }).toBe(true);
  expect(isRevoked(asks("any"))).toBe(false);
});

test("a call that goes on hears of the end of its session, and of its user, however late, and of nobody else's", async () => {
  const topic = await freshTopic("auth.v1");
  const { onRevoked, add, isReady } = follow({ kafka, topic, fetchSnapshot: authIsDown });
  await expect.poll(isReady, { timeout: 20_000 }).toBe(true);
  const ends: string[] = [];
  const call = (name: string, bearer: Bearer) => onRevoked(bearer, () => ends.push(name));
  call("by session", asks("s1", "u1"));
  // Kafka was down for so long that all tokens of that session have expired.
  call("by session, late", asks("s2", "u1"));
  call("by user", asks("s3", "u2", Date.now() / 1_000 - 60));
  call("of later", asks("s4", "u2", Date.now() / 1_000 + 60));
  call("over before", asks("s1", "u1"))();
  const value = { userId: "u2", tokensExpireAt: timestampFromMs(Date.now() + 300_000) };
  await publish(topic, [{ event: ended("s1") }, { event: ended("s2", Date.now() - 1) }, { event: { case: "userDisabled", value } }]);
  await expect.poll(() => ends.toSorted(), { timeout: 5_000 }).toEqual(["by session", "by session, late", "by user"]);
  // The session and its user are revoked, both twice: the call ends once.
  call("by this process", asks("s5", "u3", 0));
  const until = Date.now() + 300_000;
  for (let round = 0; round < 2; round++) add({ sessions: [{ id: "s5", until }], users: [{ id: "u3", issuedBefore: 1, until }] });
  call("after its end", asks("s5", "u3"));
  expect(ends.slice(3)).toEqual(["by this process", "after its end"]);
});
