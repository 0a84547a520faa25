import { randomBytes, randomInt } from "node:crypto";
import { toAppError } from "@pm/kit/errors";
import fc from "fast-check";
import { afterAll, beforeEach, expect, test } from "vitest";
import { createThrottle } from "../src/sessions/throttle.ts";
import type { AuthDatabase } from "../src/tables.ts";
import { admin, clientFor, freshEmail, from, startAuth, startReplica } from "./testing.ts";

const auth = await startAuth();
afterAll(() => auth.stop());
beforeEach(async () => void (await auth.owner.query("delete from throttles")));

type Call = typeof auth.call;
const guess = (address: string, email = admin.email, password = "a wrong guess", call: Call = auth.call) =>
  call("POST", "/auth/login", { body: { email, password }, headers: from(address) });
const anyAddress = () => `198.51.${randomInt(256)}.${randomInt(256)}`;

test("after the sixth failure an address waits, twice as long each time, and the owner signs in from another one", async () => {
  const attacker = anyAddress();
  for (let i = 0; i < 6; i++) expect((await guess(attacker)).status).toBe(401);
  const waits: number[] = [];
  for (let i = 0; i < 3; i++) {
    const refused = await guess(attacker);
    expect(refused.status).toBe(429);
    waits.push(Number(refused.headers.get("retry-after")));
    // This is as if the time had passed.
    await auth.owner.query("update throttles set blocked_until = 'epoch'");
    expect((await guess(attacker)).status).toBe(401);
  }
  expect(waits).toEqual([1, 2, 4]);
  expect((await guess(attacker, admin.email, admin.password)).status).toBe(429);
  expect((await guess(anyAddress(), admin.email, admin.password)).status).toBe(200);
});

test("all spellings of an address have one account's guesses, and a Turkish capital i is no spelling of an i", async () => {
  const attacker = anyAddress();
  const spellings = ["ADMIN@example.com", "admin@EXAMPLE.com", "admin@\uff45xample.com", "Admin@Example.Com"];
  const statuses: number[] = [];
  for (const email of [...spellings, ...spellings]) statuses.push((await guess(attacker, email)).status);
  expect(statuses).toEqual([401, 401, 401, 401, 401, 401, 429, 429]);
  expect((await guess(anyAddress(), "ADMIN@\uff45xample.com", admin.password)).status).toBe(200);
  for (const email of ["adm\u0130n@example.com", "ADM\u0130N@example.com", "adm\u0131n@example.com"])
    expect((await guess(anyAddress(), email, admin.password)).status).toBe(401);
});

test("of a hundred guesses at once at two replicas six are checked", async () => {
  const replica = await startReplica(auth);
  const calls = [auth.call, clientFor(replica.url)];
  const attacker = anyAddress();
  const answers = await Promise.all(Array.from({ length: 100 }, (_, i) => guess(attacker, admin.email, "a wrong guess", calls[i % 2])));
  await replica.stop();
  const checked = answers.filter((answer) => answer.status === 401).length;
  expect(checked).toBeGreaterThan(0);
  expect(checked).toBeLessThanOrEqual(6);
});

test("an account that is attacked from everywhere gives new addresses one guess each, and its owner still gets in", async () => {
  for (let i = 0; i < 60; i++) await guess(`203.0.113.${i}`);
  const another = anyAddress();
  const statuses: number[] = [];
  for (let i = 0; i < 4; i++) statuses.push((await guess(another)).status);
  expect(statuses).toEqual([401, 401, 429, 429]);
  expect((await guess(anyAddress(), admin.email, admin.password)).status).toBe(200);
}, 120_000);

test("an address that tries many accounts waits too, and others do not", async () => {
  const attacker = anyAddress();
  const statuses: number[] = [];
  for (let i = 0; i < 110; i++) statuses.push((await guess(attacker, `nobody-${i}@example.com`)).status);
  expect(statuses.slice(0, 100)).not.toContain(429);
  expect(statuses.slice(100)).toContain(429);
  expect((await guess(anyAddress(), freshEmail())).status).toBe(401);
}, 120_000);

test("accounts that do not exist are slowed down like those that do", async () => {
  const [attacker, nobody] = [anyAddress(), freshEmail()];
  const statuses: number[] = [];
  for (let i = 0; i < 8; i++) statuses.push((await guess(attacker, nobody)).status);
  expect(statuses).toEqual([401, 401, 401, 401, 401, 401, 429, 429]);
});

test("a success forgets the failures of its address", async () => {
  const home = anyAddress();
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < 4; i++) expect((await guess(home)).status).toBe(401);
    expect((await guess(home, admin.email, admin.password)).status).toBe(200);
  }
});

test("sign-ins that are stored together take back what each of them counted, and nothing else", async () => {
  const { token } = await auth.login();
  const password = "right for all of them";
  const people = await Promise.all(
    Array.from({ length: 4 }, async () => {
      const email = freshEmail();
      const { status } = await auth.call("POST", "/auth/users", { token, body: { email, role: "user", password } });
      expect(status).toBe(201);
      return email;
    }),
  );
  await auth.owner.query("delete from throttles");
  const home = anyAddress();
  for (const email of [people[0], people[0], people[1]]) await guess(home, email);
  const answers = await Promise.all([...people, ...people].map((email) => guess(home, email, password)));
  expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200));
  // In ten seconds, the bucket of the address forgets one attempt. The others forget less.
  const { rows } = await auth.owner.query(
    "select capacity, array_agg(round(level) order by round(level)) as levels from throttles group by capacity order by capacity",
  );
  expect(rows).toEqual([
    { capacity: 5, levels: [0, 0, 0, 0] },
    { capacity: 50, levels: [0, 0, 1, 2] },
    { capacity: 100, levels: [3] },
  ]);
});

test("attempts that come together are counted as if they came one by one", async () => {
  const query = async (statement: { name: string; text: string }, values: unknown[]) =>
    (await auth.pool.query({ ...statement, values })).rows;
  const limit = { leakSeconds: 1e9, maxDelaySeconds: 900 };
  const limits = {
    pair: { ...limit, capacity: 2 },
    address: { ...limit, capacity: 5 },
    account: { ...limit, capacity: 1_000, maxDelaySeconds: 0 },
    code: { ...limit, capacity: 1 },
    mail: { ...limit, capacity: 1 },
    mailAnywhere: { ...limit, capacity: 1 },
    client: { ...limit, capacity: 1 },
  };
  const newThrottle = () => createThrottle({ db: { query } as unknown as AuthDatabase, secret: randomBytes(32), limits });
  const attempt = fc.record({ account: fc.constantFrom(admin.email, "b", "c"), address: fc.constantFrom("one", "two") });
  type Given = { account: string; address: string };
  const outcome = async (throttle: ReturnType<typeof newThrottle>, { account, address }: Given) => {
    const counted = throttle.attemptAndRead(account, address).then(
      (done) => done.account?.email ?? "nobody",
      (error: unknown) => toAppError(error).code,
    );
    return [account, address, await counted];
  };
  const levels = async () => {
    const { rows } = await auth.owner.query(
      "select round(level) as level, capacity, blocked_until > clock_timestamp() as blocked from throttles order by capacity, level, blocked",
    );
    await auth.owner.query("delete from throttles");
    return rows;
  };
  await fc.assert(
    fc.asyncProperty(fc.array(fc.array(attempt, { minLength: 1, maxLength: 12 }), { minLength: 1, maxLength: 3 }), async (bursts) => {
      const together = newThrottle();
      const answers: string[][] = [];
      for (const burst of bursts) answers.push(...(await Promise.all(burst.map((each) => outcome(together, each)))));
      const levelsTogether = await levels();
      const alone = newThrottle();
      const expected: string[][] = [];
      for (const each of bursts.flat()) expected.push(await outcome(alone, each));
      expect(answers).toEqual(expected);
      expect(levelsTogether).toEqual(await levels());
    }),
    { numRuns: 60 },
  );
}, 60_000);

test("what no e-mail address can have is refused by name, and takes nobody with it who signs in at the same moment", async () => {
  const odd = [
    ["a\u0000b@example.com", "must not have control characters"],
    ["\ud800@example.com", "has half of a surrogate pair (\\ud800 to \\udfff); leave it out"],
  ] as const;
  const [right, ...wrong] = await Promise.all([
    guess(anyAddress(), admin.email, admin.password),
    ...odd.map(([email]) => guess(anyAddress(), email)),
  ]);
  expect(right?.status).toBe(200);
  const errors = odd.map(([, message]) => [400, [{ path: "email", message }]]);
  expect(wrong.map(({ status, body }) => [status, body.errors])).toEqual(errors);
});

test("failures are forgotten as time passes", async () => {
  const home = anyAddress();
  for (let i = 0; i < 6; i++) await guess(home);
  expect((await guess(home)).status).toBe(429);
  await auth.owner.query(
    "update throttles set updated_at = updated_at - interval '2 hours', blocked_until = blocked_until - interval '2 hours'",
  );
  for (let i = 0; i < 5; i++) expect((await guess(home)).status).toBe(401);
});

test("replicas agree", async () => {
  const replica = await startReplica(auth);
  const calls = [auth.call, clientFor(replica.url)];
  const attacker = anyAddress();
  const statuses: number[] = [];
  for (let i = 0; i < 8; i++) statuses.push((await guess(attacker, admin.email, "a wrong guess", calls[i % 2])).status);
  await replica.stop();
  expect(statuses).toEqual([401, 401, 401, 401, 401, 401, 429, 429]);
});

const askReset = (address: string, email: string) => auth.call("POST", "/auth/password-reset", { body: { email }, headers: from(address) });

test("resets that somebody asks for do not keep the owner from asking", async () => {
  const [attacker, owner] = [anyAddress(), anyAddress()];
  const statuses: number[] = [];
  for (let i = 0; i < 6; i++) statuses.push((await askReset(attacker, admin.email)).status);
  expect(statuses).toEqual([202, 202, 202, 202, 429, 429]);
  expect((await askReset(owner, admin.email)).status).toBe(202);
  expect((await askReset(attacker, freshEmail())).status).toBe(202);
});

test("while resets of an account are asked for from everywhere, new addresses have one each, and its owner too", async () => {
  for (let i = 0; i < 20; i++) expect((await askReset(`203.0.113.${i}`, admin.email)).status).toBe(202);
  const owner = anyAddress();
  const statuses: number[] = [];
  for (let i = 0; i < 4; i++) statuses.push((await askReset(owner, admin.email)).status);
  expect(statuses).toEqual([202, 202, 429, 429]);
});

test("whoever does not come from a gateway's network cannot choose the address that he is counted by", async () => {
  const exposed = await startReplica(auth, { GATEWAY_NETWORKS: "10.0.0.0/8" });
  const call = clientFor(exposed.url);
  const statuses: number[] = [];
  for (let i = 0; i < 8; i++) statuses.push((await guess(anyAddress(), admin.email, "a wrong guess", call)).status);
  await exposed.stop();
  expect(statuses).toEqual([401, 401, 401, 401, 401, 401, 429, 429]);
});

test("a connection from elsewhere may state an address if it brings the gateway's secret, and not without it", async () => {
  const gatewaySecret = randomBytes(32).toString("base64");
  const replica = await startReplica(auth, { GATEWAY_NETWORKS: "10.0.0.0/8", GATEWAY_SECRET: gatewaySecret });
  const call = clientFor(replica.url);
  const guessWith = async (secret: string) => {
    const headers = { ...from(anyAddress()), "x-gateway-secret": secret };
    return (await call("POST", "/auth/login", { body: { email: freshEmail(), password: "a wrong guess" }, headers })).status;
  };
  const addressesCounted = async () => (await auth.owner.query("select count(*)::int as n from throttles where capacity = 100")).rows[0].n;
  for (const [secret, seen] of [
    [gatewaySecret, 3],
    [`${gatewaySecret}x`, 1],
    ["-", 1],
  ] as const) {
    await auth.owner.query("delete from throttles");
    for (let i = 0; i < 3; i++) expect(await guessWith(secret)).toBe(401);
    expect([secret, await addressesCounted()]).toEqual([secret, seen]);
  }
  await replica.stop();
});

test("refusals are told to analytics and the audit trail, but not each of a flood", async () => {
  const attacker = anyAddress();
  for (let i = 0; i < 30; i++) await guess(attacker);
  const { rows } = await auth.pool.query(
    "select count(*)::int as n from audit_entries where action = 'excess_rate_limit_exceeded' and details->>'address' = $1",
    [attacker],
  );
  expect(rows).toEqual([{ n: 1 }]);
});
