import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { createEncryptor } from "@pm/kit/encryption";
import { createLogger } from "@pm/kit/log";
import { openDatabase } from "@pm/kit/postgres/database";
import { testDatabase } from "@pm/stack/testing";
import { decodeProtectedHeader, jwtVerify } from "jose";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { AuthDatabase, AuthTables } from "../src/tables.ts";
import { createTokens } from "../src/tokens/access-tokens.ts";
import { createSigningKeys } from "../src/tokens/signing-keys.ts";
import { createUnitOfWork, systemActor } from "../src/unit-of-work.ts";
import { admin, clientFor, startAuth, startReplica } from "./testing.ts";

describe("keys over time", () => {
  const log = createLogger("test", "silent");
  let db: AuthDatabase;
  let drop: () => Promise<void>;
  let time = Date.parse("2030-01-01");
  const now = () => time;
  beforeAll(async () => {
    const made = await testDatabase("auth");
    db = openDatabase<AuthTables>({ settings: { url: made.databaseUrl }, poolSize: 4, applicationName: "test", log });
    drop = made.drop;
  });
  afterAll(async () => {
    await db.kysely.destroy();
    await drop();
  });

  function replica(secret = 7) {
    const parts = { db, tokenSeconds: 300, now };
    const unitOfWork = createUnitOfWork({ ...parts, wake: () => undefined, onRevoked: () => undefined });
    const encryptor = createEncryptor(Buffer.alloc(32, secret), "signing keys");
    const keys = createSigningKeys({ ...parts, unitOfWork, encryptor, publishSeconds: 900, rotationSeconds: 86_400 });
    return { keys, tokens: createTokens({ keys, issuer: "i", audience: "a", lifetimeSeconds: 300, now }) };
  }
  const kidOf = (token: string) => decodeProtectedHeader(token).kid;
  const user = { id: "u", sessionId: "s", roles: ["user" as const], teams: [], secondFactor: false };

  test("replicas that start together make one key", async () => {
    const replicas = [replica(), replica(), replica()];
    await Promise.all(replicas.map(({ keys }) => keys.maintain()));
    const kids = await Promise.all(replicas.map(async ({ tokens }) => kidOf(await tokens.forUser(user))));
    expect(new Set(kids).size).toBe(1);
    expect(await db.kysely.selectFrom("signing_keys").select("kid").execute()).toHaveLength(1);
  });

  test("on schedule the next key is published for the whole time before it signs, and the former one until its tokens are dead", async () => {
    const { keys, tokens } = replica();
    const published = async () => (await keys.jwks()).keys.map((key) => key.kid);
    const [first] = await published();
    time += 86_400_000 - 900_000 - 1_000;
    await keys.maintain();
    expect(await published()).toEqual([first]);
    time += 1_000;
    await keys.maintain();
    const [, second] = await published();
    expect(second).toBeDefined();
    expect(kidOf(await tokens.forUser(user))).toBe(first);
    time += 899_000;
    const last = await tokens.forUser(user);
    expect(kidOf(last)).toBe(first);
    time += 1_000;
    expect(kidOf(await tokens.forUser(user))).toBe(second);
    time += 298_000;
    await jwtVerify(last, keys.resolve, { currentDate: new Date(time) });
    time += 63_000;
    expect(await published()).toEqual([second]);
  });

  test("ten commands to rotate at once make one next key, and it is audited", async () => {
    const made = await Promise.all(Array.from({ length: 10 }, () => replica().keys.rotate(systemActor())));
    expect(new Set(made.map((key) => key.kid)).size).toBe(1);
    const { rows } = await db.pool.query(
      "select count(*)::int as n from audit_entries where action = 'crypt_key_rotated' and subject = $1",
      [made[0]?.kid],
    );
    expect(rows).toEqual([{ n: 1 }]);
  });

  test("private keys are sealed: another secret does not open them", async () => {
    const { rows } = await db.pool.query(
      "select encode(sealed_private_jwk, 'escape') as sealed, public_jwk::text as public from signing_keys",
    );
    for (const { sealed, public: shown } of rows) expect(`${sealed}${shown}`).not.toContain('"d"');
    await expect(replica(8).keys.current()).rejects.toThrow();
  });
});

describe("keys in running replicas", () => {
  test("by request and by command, a rotation is seen by every replica, and no token is refused meanwhile", {
    timeout: 120_000,
  }, async () => {
    const auth = await startAuth({ KEY_PUBLISH_SECONDS: "8" });
    const other = await startReplica(auth);
    const elsewhere = clientFor(other.url);
    const kids = new Set<unknown>();
    const refused: number[] = [];
    let running = true;
    const users = Array.from({ length: 3 }, async () => {
      let { token, refreshToken } = await auth.login(admin);
      while (running) {
        const answers = await Promise.all([auth.call("GET", "/auth/validate", { token }), elsewhere("GET", "/auth/validate", { token })]);
        refused.push(...answers.map((answer) => answer.status).filter((status) => status !== 200));
        ({ token, refreshToken } = (await auth.call("POST", "/auth/refresh", { body: { refreshToken } })).body as {
          token: string;
          refreshToken: string;
        });
        kids.add(decodeProtectedHeader(token).kid);
      }
    });
    const { token } = await auth.login(admin);
    const requested = await auth.call("POST", "/auth/keys:rotate", { token });
    expect(requested).toMatchObject({ status: 202, body: { state: "next" } });
    await expect.poll(() => kids.has(requested.body.kid), { timeout: 30_000 }).toBe(true);
    const command = join(import.meta.dirname, "../src/commands/rotate-keys.ts");
    const { stdout } = await promisify(execFile)(process.execPath, [command], { env: { PATH: process.env.PATH, ...auth.env } });
    const commanded = JSON.parse(stdout.trim().split("\n").at(-1) ?? "");
    await expect.poll(() => kids.has(commanded.kid), { timeout: 30_000 }).toBe(true);
    running = false;
    await Promise.all(users);
    const { body } = await auth.call("GET", "/auth/keys", { token });
    expect((body.items as { state: string }[]).map((key) => key.state)).toEqual(["retired", "retired", "current"]);
    await other.stop();
    await auth.stop();
    expect(refused).toEqual([]);
    expect(kids.size).toBe(3);
  });
});
