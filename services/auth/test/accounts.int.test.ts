import { hash } from "@node-rs/argon2";
import { decodeJwt } from "jose";
import { afterAll, expect, test } from "vitest";
import { argon2Options } from "../src/passwords/hashing.ts";
import { type AuthUnderTest, admin, freshEmail, startAuth, startMailbox } from "./testing.ts";

const mailbox = await startMailbox();
const auth = await startAuth({ MAIL_URL: mailbox.url });
const { token: adminToken } = await auth.login();
afterAll(async () => {
  await auth.stop();
  mailbox.close();
});

const password = "correct horse battery";

async function newUser(roles = ["user"], on: AuthUnderTest = auth): Promise<{ id: string; email: string; password: string }> {
  const email = freshEmail();
  const { status, body } = await on.call("POST", "/auth/users", { token: adminToken, body: { email, name: "Somebody", roles, password } });
  expect(status, JSON.stringify(body)).toBe(201);
  return { id: String(body.id), email, password };
}
const signsIn = async (email: string, secret: string) =>
  (await auth.call("POST", "/auth/login", { body: { email, password: secret } })).status;

test("who signs up gets a mail, confirms it with the same password, and may do nothing until an administrator gives them a role", async () => {
  const email = freshEmail();
  const body = { email, password, name: "New Person" };
  expect((await auth.call("POST", "/auth/signup", { body })).status).toBe(202);
  const token = await mailbox.token(email, /Confirm your account/);
  expect(await signsIn(email, password)).toBe(401);
  expect((await auth.call("POST", "/auth/invites/accept", { body: { token, password: "another password" } })).status).toBe(400);
  expect((await auth.call("POST", "/auth/invites/accept", { body: { token, password } })).status).toBe(204);
  const { token: signedIn } = await auth.login({ email, password });
  expect(decodeJwt(signedIn)).toMatchObject({ roles: [], scope: "" });
  expect((await auth.call("GET", "/auth/me", { token: signedIn })).body).toMatchObject({ email, roles: [] });
  const refused = await auth.call("GET", "/auth/teams", { token: signedIn });
  expect(refused).toMatchObject({ status: 403, body: { detail: expect.stringContaining("patient:read") } });
  const id = decodeJwt(signedIn).sub;
  const names = `/auth/people?ids=${id}`;
  expect((await auth.call("GET", names, { token: signedIn })).status).toBe(403);
  expect((await auth.call("PATCH", `/auth/users/${id}`, { token: adminToken, body: { roles: ["user"] } })).status).toBe(200);
  const { token: later } = await auth.login({ email, password });
  expect(decodeJwt(later)).toMatchObject({ roles: ["user"], scope: "patient:read patient:write patient:emergency" });
  expect((await auth.call("GET", "/auth/teams", { token: later })).status).toBe(200);
  expect((await auth.call("POST", "/auth/invites/accept", { body: { token, password } })).status).toBe(400);
});

test("whoever has a scope reads the names of users by their ids, and nothing else about them", async () => {
  const [one, other] = [await newUser(), await newUser(["auditor"])];
  const { token } = await auth.login(other);
  const nobody = "0198c0de-7d5a-7c3b-8a51-5d0c2f9b6e10";
  const found = await auth.call("GET", `/auth/people?ids=${[other.id, nobody, one.id.toUpperCase()].join(",")}`, { token });
  const items = [one.id, other.id].sort().map((id) => ({ id, name: "Somebody" }));
  expect(found).toMatchObject({ status: 200, body: { items } });
  expect(Object.keys((found.body.items as object[])[0] ?? {}).sort()).toEqual(["id", "name"]);
  for (const wrong of ["", "?ids=", "?ids=x", `?ids=${one.id}&email=x`, `?ids=${Array(201).fill(one.id).join(",")}`])
    expect((await auth.call("GET", `/auth/people${wrong}`, { token })).status, wrong).toBe(400);
});

test("signing up with an address that has an account gets the same answer, and its owner a mail", async () => {
  const fresh = await auth.call("POST", "/auth/signup", { body: { email: freshEmail(), password } });
  const taken = await newUser();
  const again = await auth.call("POST", "/auth/signup", { body: { email: taken.email.toUpperCase(), password: "quite another one" } });
  expect({ status: again.status, body: again.body }).toEqual({ status: fresh.status, body: fresh.body });
  await expect
    .poll(() => mailbox.mails.some((mail) => mail.to.toLowerCase() === taken.email && /have an account/.test(mail.subject)))
    .toBe(true);
  expect(await signsIn(taken.email, password)).toBe(200);
});

test("an invited user chooses a password by the page behind the link", async () => {
  const email = freshEmail();
  const { body } = await auth.call("POST", "/auth/users", { token: adminToken, body: { email, role: "billing" } });
  expect(body).toMatchObject({ state: "invited", roles: ["billing"] });
  const token = await mailbox.token(email, /Your account/);
  const page = await auth.call("GET", `/auth/invites/accept?token=${token}`);
  expect(page.status).toBe(200);
  expect(page.headers.get("content-security-policy")).toContain("default-src 'none'");
  expect(page.headers.get("referrer-policy")).toBe("no-referrer");
  expect(page.body.text).toContain(`value="${token}"`);
  expect(page.body.text).toMatch(/<input[^>]*type="password"[^>]*>/);
  const send = (path: string, fields: Record<string, string>) =>
    auth.call("POST", path, {
      headers: { "content-type": "application/x-www-form-urlencoded" },
      body: new URLSearchParams(fields).toString(),
    });
  // People get pages: the form with what is wrong, and a page that says that the password is saved.
  const common = await send("/auth/invites/accept", { token, password: "password1" });
  expect([common.status, common.headers.get("content-type")]).toEqual([400, "text/html; charset=UTF-8"]);
  expect(common.body.text).toContain('role="alert">The password is one of the passwords that attackers try first; choose another one.');
  expect(common.body.text).toContain(`value="${token}"`);
  expect(common.body.text).not.toContain("password1");
  const saved = await send("/auth/invites/accept", { token, password });
  expect([saved.status, saved.headers.get("content-security-policy")]).toEqual([200, page.headers.get("content-security-policy")]);
  expect(saved.body.text).toContain("Your password is saved");
  expect(saved.body.text).not.toContain("<form");
  expect(await signsIn(email, password)).toBe(200);
  for (const used of [token, '"><script>alert(1)</script>', "x".repeat(300)]) {
    const refused = await send("/auth/password-reset/confirm", { token: used, password });
    expect([used, refused.status, refused.headers.get("content-type")]).toEqual([used, 400, "text/html; charset=UTF-8"]);
    expect(refused.body.text).toMatch(/role="alert">The link [a-z]/);
    // Another password does not help, so there is no form.
    expect(refused.body.text).not.toMatch(/<form|<script/);
  }
  const broken = await auth.call("GET", "/auth/invites/accept");
  expect([broken.status, broken.body.text]).toEqual([400, expect.stringContaining("The link is incomplete")]);
});

test("text that is not UTF-8 is refused by its name in JSON, in forms and in links, and signs nobody in", async () => {
  const user = await newUser();
  const send = async (path: string, type: string, body: string) => {
    const request = { method: "POST", headers: { "content-type": type }, body: Buffer.from(body, "latin1") };
    const answer = await fetch(`${auth.url}${path}`, request);
    return { status: answer.status, text: await answer.text() };
  };
  const form = "application/x-www-form-urlencoded";
  for (const [path, type, body, field] of [
    ["/auth/login", "application/json", JSON.stringify({ email: user.email, password: "\xff" }), "password"],
    ["/auth/login", "application/json", `{"email":"${user.email}","password":"\\udfff"}`, "password"],
    ["/auth/refresh", "application/json", '{"refreshToken":"\xff"}', "refreshToken"],
    ["/auth/signup", "application/json", JSON.stringify({ email: freshEmail(), password, name: "Zo\xeb" }), "name"],
    ["/auth/password-reset/confirm", form, "token=x&password=%FF%FF%FF%FF%FF%FF%FF%FF", "password"],
    ["/auth/invites/accept", form, "token=\xff&password=x", "token"],
    ["/auth/token", form, "grant_type=client_credentials&client_id=%C3%28", "client_id"],
  ] as const) {
    const { status, text } = await send(path, type, body);
    expect([path, status, JSON.parse(text).errors]).toEqual([path, 400, [{ path: field, message: expect.any(String) }]]);
  }
  const link = await auth.call("GET", "/auth/invites/accept?token=%FF");
  expect([link.status, link.body.errors]).toEqual([400, [{ path: "token", message: expect.stringContaining("is not UTF-8") }]]);
  expect((await send("/auth/login", "application/json; charset=utf-16", "{}")).status).toBe(415);
});

test("a link that went to a former address is void, whoever changed the address", async () => {
  const invited = freshEmail();
  const { body } = await auth.call("POST", "/auth/users", { token: adminToken, body: { email: invited, role: "user" } });
  const invitation = await mailbox.token(invited, /Your account/);
  const corrected = { email: freshEmail() };
  expect((await auth.call("PATCH", `/auth/users/${body.id}`, { token: adminToken, body: corrected })).status).toBe(200);
  expect((await auth.call("POST", "/auth/invites/accept", { body: { token: invitation, password } })).status).toBe(400);

  const user = await newUser();
  const { token: signedIn } = await auth.login(user);
  const email = freshEmail();
  expect((await auth.call("POST", "/auth/email", { token: signedIn, body: { password, email } })).status).toBe(202);
  const code = await mailbox.token(email, /new address/);
  await auth.call("POST", "/auth/password-reset", { body: { email: user.email } });
  const reset = await mailbox.token(user.email, /new password/);
  expect((await auth.call("POST", "/auth/email/confirm", { token: signedIn, body: { token: code } })).status).toBe(204);
  expect(
    (await auth.call("POST", "/auth/password-reset/confirm", { body: { token: reset, password: "of the former mailbox" } })).status,
  ).toBe(400);
  expect(await signsIn(email, password)).toBe(200);
});

test("a link works once, is void after 30 minutes, and only its hash is stored", async () => {
  const user = await newUser();
  await auth.call("POST", "/auth/password-reset", { body: { email: user.email } });
  const token = await mailbox.token(user.email, /new password/);
  const { rows } = await auth.pool.query(
    "select extract(epoch from expires_at - created_at)::int as seconds, encode(hash, 'escape') as hash from links where user_id = $1",
    [user.id],
  );
  expect(rows).toEqual([{ seconds: 1_800, hash: expect.not.stringContaining(token) }]);
  await auth.owner.query("update links set expires_at = now() where user_id = $1", [user.id]);
  expect((await auth.call("POST", "/auth/password-reset/confirm", { body: { token, password: "the second password" } })).status).toBe(400);
});

test("a reset changes the password, ends every session and tells the owner", async () => {
  const user = await newUser();
  const before = await auth.login(user);
  await auth.call("POST", "/auth/password-reset", { body: { email: user.email } });
  const token = await mailbox.token(user.email, /Choose a new password/);
  expect((await auth.call("POST", "/auth/password-reset/confirm", { body: { token, password: "the second password" } })).status).toBe(204);
  expect(await signsIn(user.email, user.password)).toBe(401);
  expect(await signsIn(user.email, "the second password")).toBe(200);
  expect((await auth.call("GET", "/auth/me", { token: before.token })).status).toBe(401);
  expect((await auth.call("POST", "/auth/refresh", { body: { refreshToken: before.refreshToken } })).status).toBe(401);
  await expect.poll(() => mailbox.mails.some((mail) => mail.to === user.email && /was changed/.test(mail.subject))).toBe(true);
});

test("asking for a reset of an unknown address gets the same answer, and sends nothing", async () => {
  const unknown = freshEmail();
  const known = await newUser();
  const first = await auth.call("POST", "/auth/password-reset", { body: { email: known.email } });
  const second = await auth.call("POST", "/auth/password-reset", { body: { email: unknown } });
  expect({ status: second.status, body: second.body }).toEqual({ status: first.status, body: first.body });
  await mailbox.token(known.email, /Choose a new password/);
  expect(mailbox.mails.some((mail) => mail.to === unknown)).toBe(false);
});

test("nobody is flooded with mails that somebody else asks for", async () => {
  const user = await newUser();
  const answers: number[] = [];
  for (let i = 0; i < 6; i++) answers.push((await auth.call("POST", "/auth/password-reset", { body: { email: user.email } })).status);
  expect(answers.slice(0, 3)).toEqual([202, 202, 202]);
  expect(answers).toContain(429);
});

test("changing the password takes the current one, ends all sessions and opens a new one", async () => {
  const user = await newUser();
  const [one, other] = [await auth.login(user), await auth.login(user)];
  const wrong = await auth.call("POST", "/auth/password", {
    token: one.token,
    body: { currentPassword: "wrong one", newPassword: "the second password" },
  });
  expect(wrong).toMatchObject({ status: 400, body: { errors: [{ path: "currentPassword", message: "is wrong" }] } });
  const { status, body } = await auth.call("POST", "/auth/password", {
    token: one.token,
    body: { currentPassword: user.password, newPassword: "the second password" },
  });
  expect(status).toBe(200);
  expect((await auth.call("GET", "/auth/me", { token: String(body.token) })).status).toBe(200);
  for (const session of [one, other]) expect((await auth.call("GET", "/auth/me", { token: session.token })).status).toBe(401);
  expect(await signsIn(user.email, "the second password")).toBe(200);
});

test.each([
  ["too short", "seven77"],
  ["too long", "x".repeat(129)],
  ["common", "Password123"],
  ["made of the address", "anna.schmidt1"],
  ["made of a word of this place", "Hospital12"],
])("a password that is %s is refused, and the answer names the field", async (_, bad) => {
  const answer = await auth.call("POST", "/auth/users", {
    token: adminToken,
    body: { email: "anna.schmidt@example.com", role: "user", password: bad },
  });
  expect(answer).toMatchObject({ status: 400, body: { errors: [{ path: "password" }] } });
});

test.each([
  ["eight letters", "zvqkmwpf"],
  ["128 characters", "aß€😀".repeat(32)],
  ["spaces at the ends", "  two words  "],
])("a password of %s is taken exactly as it is", async (_, good) => {
  const email = freshEmail();
  expect((await auth.call("POST", "/auth/users", { token: adminToken, body: { email, role: "user", password: good } })).status).toBe(201);
  expect(await signsIn(email, good)).toBe(200);
  expect(await signsIn(email, good.trim() === good ? good.replace(/^./u, "b") : good.trim())).toBe(401);
});

const composed = "Ünïcödé pässwörd";
const decomposed = composed.normalize("NFD").replace(" ", "\u00a0");

test("a password is the same in the spelling of every keyboard and system", async () => {
  for (const [chosen, typed] of [
    [composed, decomposed],
    [decomposed, composed],
    ["\u00c5".repeat(128), "A\u030a".repeat(128)],
  ] as const) {
    const email = freshEmail();
    const body = { email, role: "user", password: chosen };
    expect((await auth.call("POST", "/auth/users", { token: adminToken, body })).status).toBe(201);
    for (const secret of [chosen, typed]) expect(await signsIn(email, secret)).toBe(200);
    expect(await signsIn(email, typed.toLowerCase())).toBe(401);
  }
  const tooLong = await auth.call("POST", "/auth/login", { body: { email: freshEmail(), password: "A\u030a".repeat(129) } });
  expect(tooLong).toMatchObject({ status: 400, body: { errors: [{ path: "password" }] } });
});

test("a password that was stored as it was typed signs in as it was typed, and in every spelling from then on", async () => {
  const user = await newUser();
  await auth.owner.query("update users set password_hash = $1 where id = $2", [await hash(decomposed, argon2Options), user.id]);
  expect(await signsIn(user.email, composed)).toBe(401);
  const answers = await Promise.all(Array.from({ length: 5 }, () => signsIn(user.email, decomposed)));
  expect(answers).toEqual(answers.map(() => 200));
  expect(await signsIn(user.email, composed)).toBe(200);
  const session = await auth.login({ email: user.email, password: composed });
  expect((await auth.call("POST", "/auth/refresh", { body: { refreshToken: session.refreshToken } })).status).toBe(200);
});

test("a new e-mail address counts when it was confirmed; the former one is told and other sessions end", async () => {
  const user = await newUser();
  const [one, other] = [await auth.login(user), await auth.login(user)];
  const email = freshEmail();
  const wrong = await auth.call("POST", "/auth/email", { token: one.token, body: { email, password: "wrong one" } });
  expect(wrong).toMatchObject({ status: 400, body: { errors: [{ path: "password", message: "is wrong" }] } });
  expect((await auth.call("POST", "/auth/email", { token: one.token, body: { email, password: user.password } })).body).toEqual({
    status: "code sent",
  });
  const token = await mailbox.token(email, /Confirm your new address/);
  expect((await auth.call("POST", "/auth/email/confirm", { token: adminToken, body: { token } })).status).toBe(400);
  expect((await auth.call("POST", "/auth/email/confirm", { token: one.token, body: { token } })).status).toBe(204);
  expect(await signsIn(email, user.password)).toBe(200);
  expect(await signsIn(user.email, user.password)).toBe(401);
  expect((await auth.call("GET", "/auth/me", { token: one.token })).body).toMatchObject({ email });
  expect((await auth.call("GET", "/auth/me", { token: other.token })).status).toBe(401);
  await expect.poll(() => mailbox.mails.some((mail) => mail.to === user.email && /address was changed/.test(mail.subject))).toBe(true);
});

test("one sees one's sessions, ends one of them, and all others", async () => {
  const user = await newUser();
  const [here, there, elsewhere] = [await auth.login(user), await auth.login(user), await auth.login(user)];
  const { body } = await auth.call("GET", "/auth/sessions", { token: here.token });
  const items = body.items as { id: string; current: boolean; address: string }[];
  expect(items).toHaveLength(3);
  expect(items.filter((item) => item.current).map((item) => item.id)).toEqual([decodeJwt(here.token).sid]);
  expect(items[0]?.address).toBe("127.0.0.1");
  expect((await auth.call("DELETE", `/auth/sessions/${decodeJwt(there.token).sid}`, { token: here.token })).status).toBe(204);
  expect((await auth.call("GET", "/auth/me", { token: there.token })).status).toBe(401);
  expect((await auth.call("POST", "/auth/sessions:endOthers", { token: here.token })).body).toEqual({ ended: 1 });
  expect((await auth.call("GET", "/auth/me", { token: elsewhere.token })).status).toBe(401);
  expect((await auth.call("GET", "/auth/me", { token: here.token })).status).toBe(200);
  const stranger = await auth.login();
  expect((await auth.call("DELETE", `/auth/sessions/${decodeJwt(here.token).sid}`, { token: stranger.token })).status).toBe(404);
});

test("signup can be switched off, or made open, and without mail it is off", async () => {
  const open = await startAuth({ SIGNUP: "open", SIGNUP_ROLE: "user" });
  const email = freshEmail();
  expect((await open.call("POST", "/auth/signup", { body: { email, password } })).status).toBe(202);
  expect(decodeJwt((await open.login({ email, password })).token)).toMatchObject({
    roles: ["user"],
    scope: "patient:read patient:write patient:emergency",
  });
  await open.stop();
  const closed = await startAuth();
  expect((await closed.call("POST", "/auth/signup", { body: { email, password } })).status).toBe(403);
  const { token } = await closed.login(admin);
  const invited = await closed.call("POST", "/auth/users", { token, body: { email, role: "user" } });
  expect(invited).toMatchObject({ status: 409, body: { detail: expect.stringContaining("MAIL_URL") } });
  await closed.stop();
});
