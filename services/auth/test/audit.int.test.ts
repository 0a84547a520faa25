import { randomUUID } from "node:crypto";
import { verifyAudit } from "@pm/kit/audit/verify";
import { decodeJwt } from "jose";
import { afterAll, expect, test } from "vitest";
import { admin, freshEmail, startAuth, startMailbox } from "./testing.ts";

const mailbox = await startMailbox();
const auth = await startAuth({ MAIL_URL: mailbox.url, REFRESH_GRACE_SECONDS: "0" });
afterAll(async () => {
  await auth.stop();
  mailbox.close();
});

const secrets = new Set<string>([admin.password]);
const password = "correct horse battery";
const second = "staple of the second kind";

test("sign-ins, failures, reuse, role changes and rotations are in the audit trail, in words of OWASP's vocabulary", async () => {
  secrets.add(password).add(second);
  const { token, refreshToken } = await auth.login();
  secrets.add(token).add(refreshToken);
  const email = freshEmail();
  const { body: user } = await auth.call("POST", "/auth/users", { token, body: { email, role: "user", password } });
  await auth.call("POST", "/auth/login", { body: { email, password: "a wrong guess" } });
  const session = await auth.login({ email, password });
  secrets.add(session.token).add(session.refreshToken);
  const next = await auth.call("POST", "/auth/refresh", { body: { refreshToken: session.refreshToken } });
  const last = await auth.call("POST", "/auth/refresh", { body: { refreshToken: next.body.refreshToken } });
  secrets.add(String(next.body.refreshToken)).add(String(last.body.refreshToken));
  expect((await auth.call("POST", "/auth/refresh", { body: { refreshToken: session.refreshToken } })).status).toBe(401);
  await auth.call("PATCH", `/auth/users/${user.id}`, { token, body: { roles: ["billing"] } });
  await auth.call("POST", "/auth/password-reset", { body: { email } });
  const link = await mailbox.token(email, /Choose a new password/);
  secrets.add(link);
  await auth.call("POST", "/auth/password-reset/confirm", { body: { token: link, password: second } });
  await auth.call("POST", `/auth/users/${user.id}:disable`, { token });
  await auth.call("POST", "/auth/keys:rotate", { token });
  const { rows } = await auth.pool.query("select action, actor, request_id from audit_entries where subject = $1 order by id", [user.id]);
  expect(rows.map((row) => row.action)).toEqual([
    "user_created",
    "authn_login_fail",
    "authn_login_success",
    "session_renewed",
    "session_renewed",
    "authn_token_reuse",
    "authz_change",
    "authn_link_sent",
    "authn_password_change",
    "user_disabled",
  ]);
  expect(rows[0]).toMatchObject({ actor: decodeJwt(token).sub, request_id: expect.stringMatching(/^[\w-]{8,}$/) });
  const { rows: rotations } = await auth.pool.query("select actor from audit_entries where action = 'crypt_key_rotated' order by id");
  expect(rotations.map((row) => row.actor)).toEqual(["auth", decodeJwt(token).sub]);
});

test("who reads users and sessions is in the audit trail, and so is who may not", async () => {
  const { token } = await auth.login();
  const email = freshEmail();
  const { body: user } = await auth.call("POST", "/auth/users", { token, body: { email, role: "user", password } });
  const session = await auth.login({ email, password });
  const me = String(decodeJwt(token).sub);
  const entriesOf = async (method: string, path: string, sender: string, body?: unknown) => {
    const requestId = randomUUID();
    const { status } = await auth.call(method, path, { token: sender, body, headers: { "x-request-id": requestId } });
    const { rows } = await auth.pool.query("select action, subject, details from audit_entries where request_id = $1", [requestId]);
    return { status, entries: rows };
  };
  const read = { action: "sensitive_read", subject: user.id };
  const list = await entriesOf("GET", `/auth/users?q=${encodeURIComponent(email)}`, token);
  expect(list).toEqual({ status: 200, entries: [{ ...read, subject: "users", details: { ids: [user.id] } }] });
  expect(await entriesOf("GET", `/auth/users/${user.id}`, token)).toEqual({ status: 200, entries: [{ ...read, details: {} }] });
  const sessions = { sessions: [decodeJwt(session.token).sid] };
  expect((await entriesOf("GET", `/auth/users/${user.id}/sessions`, token)).entries).toEqual([{ ...read, details: sessions }]);
  expect((await entriesOf("GET", "/auth/sessions", session.token)).entries).toEqual([{ ...read, details: sessions }]);
  for (const [method, path, body] of [
    ["PATCH", `/auth/users/${user.id}`, {}],
    ["PATCH", `/auth/users/${user.id}`, { email, roles: ["user"] }],
    ["POST", `/auth/users/${user.id}:enable`],
    ["POST", `/auth/users/${user.id}:removeSecondFactor`],
  ] as const)
    expect(await entriesOf(method, path, token, body)).toMatchObject({ status: 200, entries: [read] });
  const refused = { action: "access.refused", subject: "auth.getUser" };
  expect(await entriesOf("GET", `/auth/users/${me}`, session.token)).toMatchObject({ status: 403, entries: [refused] });
});

test("the trail is chained, only grows for the service, and shows whoever changes it from outside", async () => {
  await expect
    .poll(async () => (await auth.pool.query("select count(*)::int as n from audit_unsealed")).rows[0].n, { timeout: 20_000 })
    .toBe(0);
  expect(await verifyAudit(auth.pool)).toMatchObject({ intact: true });
  for (const statement of ["update audit_entries set actor = 'x'", "delete from audit_entries", "truncate audit_blocks"])
    await expect(auth.pool.query(statement)).rejects.toThrow("permission denied");
  const { rows } = await auth.owner.query("update audit_entries set actor = 'somebody else' where action = 'authz_change' returning id");
  expect(await verifyAudit(auth.pool)).toMatchObject({ intact: false, entryId: String(rows[0].id) });
});

test("no password, token or link is in the database or the log", async () => {
  const { rows: tables } = await auth.owner.query("select tablename from pg_tables where schemaname = 'public'");
  for (const { tablename } of tables) {
    // JSON has bytes as hexadecimal digits.
    const { rows } = await auth.owner.query(`select to_jsonb(t)::text as text from "${tablename}" t`);
    for (const secret of secrets) {
      const hex = Buffer.from(secret).toString("hex");
      expect(
        rows.some(({ text }) => text.includes(secret) || text.includes(hex)),
        tablename,
      ).toBe(false);
    }
  }
  const log = auth.logs.join("\n");
  expect(log).toContain('"operation":"login"');
  for (const secret of secrets) expect(log).not.toContain(secret);
});
