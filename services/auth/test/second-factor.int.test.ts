import { decodeJwt } from "jose";
import { Secret, TOTP } from "otpauth";
import { afterAll, beforeEach, expect, test } from "vitest";
import { type AuthUnderTest, admin, freshEmail, from, startAuth, startMailbox } from "./testing.ts";

const mailbox = await startMailbox();
const auth = await startAuth({ MAIL_URL: mailbox.url, SECOND_FACTOR_REQUIRED: "admins" });
afterAll(async () => {
  await auth.stop();
  mailbox.close();
});
beforeEach(async () => void (await auth.owner.query("delete from throttles")));

const password = "correct horse battery";
const codeOf = (secret: string, offsetSeconds = 0) =>
  new TOTP({ secret: Secret.fromBase32(secret) }).generate({ timestamp: Date.now() + offsetSeconds * 1_000 });
const login = (body: object, on: AuthUnderTest = auth) => on.call("POST", "/auth/login", { body });

/** Enrols, and forgets the step of the first code, so that the present code can be used again. */
async function enrol(token: string, secretPassword = password): Promise<{ secret: string; recoveryCodes: string[] }> {
  const { status, body } = await auth.call("POST", "/auth/mfa/totp", { token, body: { password: secretPassword } });
  expect(status, JSON.stringify(body)).toBe(200);
  const secret = String(body.secret);
  expect(body.uri).toMatch(/^otpauth:\/\/totp\/Patient%20Management:/);
  const confirmed = await auth.call("POST", "/auth/mfa/totp/confirm", { token, body: { code: codeOf(secret) } });
  expect(confirmed.status, JSON.stringify(confirmed.body)).toBe(200);
  await auth.owner.query("update second_factors set last_step = 0");
  return { secret, recoveryCodes: confirmed.body.recoveryCodes as string[] };
}

/** The secret of the first administrator, who has a second factor from the first test on. */
let adminSecret = "";

test("an administrator who must have a second factor can do nothing but set one up, and then everything", async () => {
  const first = await login(admin);
  expect(first).toMatchObject({ status: 200, body: { secondFactorSetupRequired: true } });
  const token = String(first.body.token);
  expect(decodeJwt(token)).toMatchObject({ roles: [], scope: "" });
  expect((await auth.call("GET", "/auth/users", { token })).status).toBe(403);
  adminSecret = (await enrol(token, admin.password)).secret;
  const { body } = await auth.call("POST", "/auth/refresh", { body: { refreshToken: first.body.refreshToken } });
  expect(body.secondFactorSetupRequired).toBeUndefined();
  expect((await auth.call("GET", "/auth/users", { token: String(body.token) })).status).toBe(200);
});

async function adminToken(): Promise<string> {
  await auth.owner.query("update second_factors set last_step = 0");
  return (await auth.login({ ...admin, code: codeOf(adminSecret) })).token;
}
async function newUser(): Promise<{ id: string; email: string; password: string }> {
  const email = freshEmail();
  const { body } = await auth.call("POST", "/auth/users", { token: await adminToken(), body: { email, role: "user", password } });
  return { id: String(body.id), email, password };
}

test("signing in takes the code; without it the answer says so, and the code is asked for only after the right password", async () => {
  const without = await login(admin);
  expect(without).toMatchObject({ status: 401, body: { errors: [{ path: "code" }] } });
  const wrong = await login({ ...admin, password: "a wrong guess" });
  expect(wrong.body.errors).toBeUndefined();
  expect((await login({ ...admin, code: "000000" })).status).toBe(401);
  await auth.owner.query("update second_factors set last_step = 0");
  expect((await login({ ...admin, code: codeOf(adminSecret) })).status).toBe(200);
});

test("a code is used once, even by twenty at once, and one that is minutes old not at all", async () => {
  const user = await newUser();
  const { secret } = await enrol((await auth.login(user)).token);
  const code = codeOf(secret);
  const answers = await Promise.all(Array.from({ length: 5 }, () => login({ ...user, code })));
  expect(answers.filter((answer) => answer.status === 200)).toHaveLength(1);
  await auth.owner.query("delete from throttles");
  expect((await login({ ...user, code })).status).toBe(401);
  expect((await login({ ...user, code: codeOf(secret, -120) })).status).toBe(401);
});

test("codes are taken with the spaces and hyphens that apps show", async () => {
  const user = await newUser();
  const { token } = await auth.login(user);
  const { body } = await auth.call("POST", "/auth/mfa/totp", { token, body: { password } });
  const secret = String(body.secret);
  const spaced = (separator: string) => codeOf(secret).replace(/^.../, `$&${separator}`);
  const confirmed = await auth.call("POST", "/auth/mfa/totp/confirm", { token, body: { code: spaced(" ") } });
  expect(confirmed.status).toBe(200);
  for (const separator of [" ", "-", "\u00a0", "\u202f", " \u2013 "]) {
    await auth.owner.query("update second_factors set last_step = 0");
    expect([separator, (await login({ ...user, code: ` ${spaced(separator)} ` })).status]).toEqual([separator, 200]);
  }
  const [recoveryCode = ""] = confirmed.body.recoveryCodes as string[];
  expect((await login({ ...user, code: recoveryCode.replaceAll("-", " \u2010 ") })).status).toBe(200);
  expect(await login({ ...user, code: "1 2 3 -  -" })).toMatchObject({ status: 400, body: { errors: [{ path: "code" }] } });
});

test("a recovery code signs in once, and new ones void the former", async () => {
  const user = await newUser();
  const { recoveryCodes } = await enrol((await auth.login(user)).token);
  expect(recoveryCodes).toHaveLength(10);
  expect(recoveryCodes[0]).toMatch(/^([A-Z2-7]{6}-){3}[A-Z2-7]{6}$/);
  const [first = "", second = "", third = ""] = recoveryCodes;
  const session = await login({ ...user, code: first.toLowerCase().replaceAll("-", " ") });
  expect(session.status).toBe(200);
  expect((await login({ ...user, code: first })).status).toBe(401);
  const renewed = await auth.call("POST", "/auth/mfa/recovery-codes", {
    token: String(session.body.token),
    body: { password, code: second },
  });
  expect(renewed.status).toBe(200);
  expect((await login({ ...user, code: third })).status).toBe(401);
  expect((await login({ ...user, code: (renewed.body.recoveryCodes as string[])[0] })).status).toBe(200);
  const { rows } = await auth.pool.query("select encode(hash, 'escape') as hash from recovery_codes");
  expect(rows.some((row) => recoveryCodes.includes(row.hash))).toBe(false);
});

test("setting it up takes the password, ends other sessions, and the secret is sealed at rest", async () => {
  const user = await newUser();
  const [here, there] = [await auth.login(user), await auth.login(user)];
  expect((await auth.call("POST", "/auth/mfa/totp", { token: here.token, body: { password: "a wrong guess" } })).status).toBe(400);
  expect((await auth.call("POST", "/auth/mfa/totp/confirm", { token: here.token, body: { code: "123456" } })).status).toBe(409);
  const { secret } = await enrol(here.token);
  expect((await auth.call("GET", "/auth/me", { token: there.token })).status).toBe(401);
  expect((await auth.call("GET", "/auth/me", { token: here.token })).body).toMatchObject({ secondFactor: true });
  const { rows } = await auth.pool.query("select encode(sealed_secret, 'escape') as sealed from second_factors where user_id = $1", [
    user.id,
  ]);
  expect(rows[0].sealed).not.toContain(secret);
  await expect.poll(() => mailbox.mails.some((mail) => mail.to === user.email && /Second factor added/.test(mail.subject))).toBe(true);
});

test("a reset of the password does not get around the second factor", async () => {
  const user = await newUser();
  const { secret } = await enrol((await auth.login(user)).token);
  await auth.call("POST", "/auth/password-reset", { body: { email: user.email } });
  const token = await mailbox.token(user.email, /Choose a new password/);
  const fresh = "quite another password";
  expect((await auth.call("POST", "/auth/password-reset/confirm", { body: { token, password: fresh } })).status).toBe(204);
  expect((await login({ email: user.email, password: fresh })).status).toBe(401);
  expect((await login({ email: user.email, password: fresh, code: codeOf(secret) })).status).toBe(200);
});

test("it can be removed by its owner with a code, and by an administrator for who has lost everything", async () => {
  const user = await newUser();
  const { token } = await auth.login(user);
  const { secret } = await enrol(token);
  expect((await auth.call("POST", "/auth/mfa/totp:remove", { token, body: { password } })).body.errors).toMatchObject([{ path: "code" }]);
  expect((await auth.call("POST", "/auth/mfa/totp:remove", { token, body: { password, code: codeOf(secret) } })).status).toBe(204);
  expect((await login(user)).status).toBe(200);
  await enrol((await auth.login(user)).token);
  expect((await login(user)).status).toBe(401);
  const removed = await auth.call("POST", `/auth/users/${user.id}:removeSecondFactor`, { token: await adminToken() });
  expect(removed.body).toMatchObject({ secondFactor: false });
  expect((await login(user)).status).toBe(200);
});

/** An administrator with a second factor and all rights. */
async function newAdmin() {
  const email = freshEmail();
  const created = await auth.call("POST", "/auth/users", { token: await adminToken(), body: { email, role: "admin", password } });
  const { token, refreshToken } = await auth.login({ email, password });
  const factor = await enrol(token);
  const { body } = await auth.call("POST", "/auth/refresh", { body: { refreshToken } });
  return { ...factor, id: String(created.body.id), email, token: String(body.token), refreshToken: String(body.refreshToken) };
}

test("who removes a second factor that is required has no rights from then on, neither in this session nor by signing in", async () => {
  const { email, token, refreshToken, secret } = await newAdmin();
  expect((await auth.call("GET", "/auth/users", { token })).status).toBe(200);
  expect((await auth.call("POST", "/auth/mfa/totp:remove", { token, body: { password, code: codeOf(secret) } })).status).toBe(204);
  expect((await auth.call("GET", "/auth/users", { token })).status).toBe(401);
  expect((await auth.call("POST", "/auth/refresh", { body: { refreshToken } })).status).toBe(401);
  const again = await login({ email, password });
  expect(again).toMatchObject({ status: 200, body: { secondFactorSetupRequired: true } });
  expect(decodeJwt(String(again.body.token))).toMatchObject({ roles: [], scope: "" });
});

test("a session that is opened while its second factor is removed has no rights", async () => {
  const { id, email, secret } = await newAdmin();
  const removal = await auth.owner.connect();
  await removal.query("begin");
  await removal.query("update users set updated_at = clock_timestamp() where id = $1", [id]);
  const signIn = login({ email, password, code: codeOf(secret) });
  // The sign-in has checked its code when it waits for the account.
  await expect
    .poll(async () => (await auth.owner.query("select count(*)::int as n from pg_locks where not granted")).rows[0].n)
    .toBeGreaterThan(0);
  for (const table of ["recovery_codes", "second_factors"]) await removal.query(`delete from ${table} where user_id = $1`, [id]);
  await removal.query("commit");
  removal.release();
  const { status, body } = await signIn;
  expect([status, body.secondFactorSetupRequired, decodeJwt(String(body.token)).scope]).toEqual([200, true, ""]);
});

test("a session keeps going without the second factor that its owner removed where none is required", async () => {
  const user = await newUser();
  const { token, refreshToken } = await auth.login(user);
  const { secret } = await enrol(token);
  expect((await auth.call("POST", "/auth/mfa/totp:remove", { token, body: { password, code: codeOf(secret) } })).status).toBe(204);
  expect((await auth.call("POST", "/auth/refresh", { body: { refreshToken } })).status).toBe(200);
  const { body } = await auth.call("GET", "/auth/sessions", { token });
  expect(body.items).toMatchObject([{ current: true, secondFactor: false }]);
});

test("asking which factor is needed does not make wrong codes forgotten", async () => {
  const user = await newUser();
  await enrol((await auth.login(user)).token);
  const statuses: number[] = [];
  for (let i = 0; i < 10; i++) {
    statuses.push((await login({ ...user, code: String(100_000 + i) })).status);
    await login(user);
  }
  expect(statuses).toContain(429);
});

test("codes cannot be tried from many addresses, and a recovery code still signs in", async () => {
  const user = await newUser();
  const { secret, recoveryCodes } = await enrol((await auth.login(user)).token);
  const tryFrom = (address: string, code: string) => auth.call("POST", "/auth/login", { body: { ...user, code }, headers: from(address) });
  const statuses: number[] = [];
  for (let i = 0; i < 24; i++) statuses.push((await tryFrom(`203.0.113.${i}`, String(100_000 + i))).status);
  expect(statuses.slice(0, 20)).not.toContain(429);
  expect(statuses.slice(-2)).toEqual([429, 429]);
  expect((await tryFrom("198.51.100.1", codeOf(secret))).status).toBe(429);
  expect((await tryFrom("198.51.100.2", recoveryCodes[0] ?? "")).status).toBe(200);
});

test("a wrong code counts as a failed attempt", async () => {
  const user = await newUser();
  await enrol((await auth.login(user)).token);
  const statuses: number[] = [];
  for (let i = 0; i < 8; i++) statuses.push((await login({ ...user, code: String(100_000 + i) })).status);
  expect(statuses).toContain(429);
});
