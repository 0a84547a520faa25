import { decodeJwt } from "jose";
import { afterAll, expect, test } from "vitest";
import { admin, freshEmail, startAuth } from "./testing.ts";

const auth = await startAuth();
const { token } = await auth.login();
afterAll(() => auth.stop());

const password = "correct horse battery";
type User = { id: string; email: string; roles: string[]; state: string; teams: string[] };

async function newUser(options: { roles?: string[]; name?: string; email?: string } = {}): Promise<User> {
  const { roles = ["user"], name = "Somebody", email = freshEmail() } = options;
  const { status, body } = await auth.call("POST", "/auth/users", { token, body: { email, name, roles, password } });
  expect(status, JSON.stringify(body)).toBe(201);
  return body as unknown as User;
}
const audit = async (subject: string) =>
  (await auth.pool.query("select action, actor, details from audit_entries where subject = $1 order by id", [subject])).rows;

test("an administrator makes accounts with any roles, and nobody else does", async () => {
  const created = await auth.call("POST", "/auth/users", { token, body: { email: freshEmail(), roles: ["billing", "analyst"], password } });
  expect(created).toMatchObject({ status: 201, body: { state: "active", roles: ["billing", "analyst"] } });
  expect(created.headers.get("location")).toBe(`/auth/users/${created.body.id}`);
  const { token: userToken } = await auth.login({ email: String(created.body.email), password });
  expect(decodeJwt(userToken).scope).toBe("billing:read billing:write patient:read patient:all analytics:read");
  expect(
    (await auth.call("POST", "/auth/users", { token: userToken, body: { email: freshEmail(), role: "admin", password } })).status,
  ).toBe(403);
  expect((await auth.call("GET", "/auth/users", { token: userToken })).status).toBe(403);
});

test("of twenty accounts with one address, made at once, one is made", async () => {
  const email = freshEmail();
  const statuses = await Promise.all(
    Array.from(
      { length: 20 },
      async (_, i) =>
        (await auth.call("POST", "/auth/users", { token, body: { email: i % 2 ? email : email.toUpperCase(), role: "user", password } }))
          .status,
    ),
  );
  expect(statuses.toSorted()).toEqual([201, ...Array(19).fill(409)]);
});

test.each([
  ["no roles", { email: "a@example.com", password }, "roles"],
  ["an unknown role", { email: "a@example.com", roles: ["king"], password }, "roles[0]"],
  ["no role at all", { email: "a@example.com", roles: [], password }, "roles"],
  ["no e-mail", { roles: ["user"], password }, "email"],
  ["a wrong e-mail", { email: "nonsense", roles: ["user"], password }, "email"],
])("an account with %s is refused, and the answer names the field", async (_, body, path) => {
  expect(await auth.call("POST", "/auth/users", { token, body })).toMatchObject({ status: 400, body: { errors: [{ path }] } });
});

test("users are listed page by page, each once, and found by parts of name and address", async () => {
  const mark = `mark${Date.now()}`;
  const made = [];
  for (let i = 0; i < 7; i++) made.push(await newUser({ name: `Person ${mark} 100%_${i}` }));
  const seen: string[] = [];
  let cursor = "";
  do {
    const { status, body } = await auth.call("GET", `/auth/users?q=${mark}&limit=3${cursor && `&cursor=${cursor}`}`, { token });
    expect(status).toBe(200);
    seen.push(...(body.items as User[]).map((user) => user.id));
    cursor = String(body.nextCursor ?? "");
  } while (cursor);
  expect(seen).toEqual(made.map((user) => user.id));
  const find = async (query: string) => (await auth.call("GET", `/auth/users?${query}`, { token })).body.items as User[];
  expect((await find(`q=${encodeURIComponent(`${mark} 100%_3`)}`)).map((user) => user.id)).toEqual([made[3]?.id]);
  expect((await find(`q=${made[2]?.email.slice(0, 15).toUpperCase()}`)).map((user) => user.id)).toEqual([made[2]?.id]);
  expect((await find("role=admin")).map((user) => user.email)).toEqual([admin.email]);
});

test("names of users and teams are stored as NFC, and those that hide or turn around are refused", async () => {
  const { id } = await newUser({ name: "Jose\u0301" });
  const named = async () => (await auth.call("GET", `/auth/users/${id}`, { token })).body.name;
  expect(await named()).toBe("José");
  expect((await auth.call("PATCH", `/auth/users/${id}`, { token, body: { name: "Zoe\u0308" } })).status).toBe(200);
  expect(await named()).toBe("Zoë");
  const team = await auth.call("POST", "/auth/teams", { token, body: { name: "Cafe\u0301" } });
  expect(team.body.name).toBe("Café");
  for (const name of ["\u200b", "\u2800", "Ada\u202e"]) {
    const refused = await Promise.all([
      auth.call("POST", "/auth/users", { token, body: { email: freshEmail(), roles: ["user"], password, name } }),
      auth.call("PATCH", `/auth/users/${id}`, { token, body: { name } }),
      auth.call("POST", "/auth/teams", { token, body: { name } }),
      auth.call("PATCH", `/auth/teams/${team.body.id}`, { token, body: { name } }),
    ]);
    for (const { status, body } of refused) expect([status, body.errors]).toEqual([400, [{ path: "name", message: expect.any(String) }]]);
  }
});

test("a cursor of another list, or a made-up one, is refused", async () => {
  for (let i = 0; i < 2; i++) await newUser();
  const { body } = await auth.call("GET", "/auth/users?limit=1", { token });
  expect((await auth.call("GET", `/auth/users?limit=1&cursor=${body.nextCursor}&role=user`, { token })).status).toBe(400);
  expect((await auth.call("GET", "/auth/users?cursor=AAAA", { token })).status).toBe(400);
});

test("new roles hold at once: the sessions with the former ones have ended, and both are in the audit trail", async () => {
  const user = await newUser({ roles: ["analyst"] });
  const session = await auth.login({ email: user.email, password });
  const { body } = await auth.call("PATCH", `/auth/users/${user.id}`, { token, body: { roles: ["user"] } });
  expect(body).toMatchObject({ roles: ["user"] });
  expect((await auth.call("GET", "/auth/me", { token: session.token })).status).toBe(401);
  expect(decodeJwt((await auth.login({ email: user.email, password })).token).roles).toEqual(["user"]);
  expect(await audit(user.id)).toContainEqual(
    expect.objectContaining({
      action: "authz_change",
      actor: decodeJwt(token).sub,
      details: expect.objectContaining({ before: ["analyst"], after: ["user"] }),
    }),
  );
});

test("no token with former roles is good for anything, even from a login at the very moment of the change", async () => {
  const user = await newUser({ roles: ["analyst"] });
  for (const [before, after] of [
    ["analyst", "user"],
    ["user", "billing"],
    ["billing", "analyst"],
  ] as const) {
    const logins = Array.from({ length: 6 }, () => auth.call("POST", "/auth/login", { body: { email: user.email, password } }));
    const [answers] = await Promise.all([
      Promise.all(logins),
      auth.call("PATCH", `/auth/users/${user.id}`, { token, body: { roles: [after] } }),
    ]);
    for (const { status, body } of answers) {
      expect(status).toBe(200);
      const roles = decodeJwt(String(body.token)).roles as string[];
      expect([before, after]).toContain(roles[0]);
      expect((await auth.call("GET", "/auth/validate", { token: String(body.token) })).status).toBe(roles[0] === after ? 200 : 401);
    }
    await auth.owner.query("delete from throttles");
  }
});

test("a disabled user is out, cannot come back in, and can again when enabled", async () => {
  const user = await newUser();
  const session = await auth.login({ email: user.email, password });
  expect((await auth.call("POST", `/auth/users/${user.id}:disable`, { token })).body).toMatchObject({ state: "disabled" });
  expect((await auth.call("GET", "/auth/me", { token: session.token })).status).toBe(401);
  expect((await auth.call("POST", "/auth/refresh", { body: { refreshToken: session.refreshToken } })).status).toBe(401);
  expect((await auth.call("POST", "/auth/login", { body: { email: user.email, password } })).status).toBe(401);
  const { rows } = await auth.pool.query("select type from outbox where key = any($1) order by id", [
    [user.id, decodeJwt(session.token).sid],
  ]);
  expect(rows.map((row) => row.type)).toEqual(["auth.v1.signed_in", "auth.v1.user_disabled", "auth.v1.session_revoked"]);
  expect((await auth.call("POST", `/auth/users/${user.id}:enable`, { token })).body).toMatchObject({ state: "active" });
  const again = await auth.login({ email: user.email, password });
  expect((await auth.call("GET", "/auth/me", { token: again.token })).status).toBe(200);
});

test("no session survives being opened while its account is disabled", async () => {
  const user = await newUser();
  for (let round = 0; round < 5; round++) {
    const logins = Array.from({ length: 8 }, () => auth.call("POST", "/auth/login", { body: { email: user.email, password } }));
    const [answers] = await Promise.all([Promise.all(logins), auth.call("POST", `/auth/users/${user.id}:disable`, { token })]);
    for (const { status, body } of answers)
      if (status === 200)
        expect((await auth.call("POST", "/auth/refresh", { body: { refreshToken: body.refreshToken } })).status).toBe(401);
    await auth.call("POST", `/auth/users/${user.id}:enable`, { token });
    await auth.owner.query("delete from throttles");
  }
});

test("the last administrator can neither be disabled nor lose the role, and two cannot remove each other", async () => {
  const me = String(decodeJwt(token).sub);
  expect((await auth.call("POST", `/auth/users/${me}:disable`, { token })).status).toBe(409);
  expect((await auth.call("PATCH", `/auth/users/${me}`, { token, body: { roles: ["user"] } })).status).toBe(409);
  const other = await newUser({ roles: ["admin"] });
  const otherToken = (await auth.login({ email: other.email, password })).token;
  const answers = await Promise.all([
    auth.call("POST", `/auth/users/${other.id}:disable`, { token }),
    auth.call("POST", `/auth/users/${me}:disable`, { token: otherToken }),
  ]);
  expect(answers.map((answer) => answer.status).toSorted()).not.toEqual([200, 200]);
  const { rows } = await auth.pool.query("select count(*)::int as n from users where 'admin' = any(roles) and disabled_at is null");
  expect(rows[0].n).toBeGreaterThanOrEqual(1);
  // The following tests need the first administrator, whichever of the two has won.
  await auth.owner.query("update users set disabled_at = null where id = $1", [me]);
});

test("an administrator signs a user out everywhere", async () => {
  // An earlier test may have ended the session.
  const { token: fresh } = await auth.login();
  const user = await newUserBy(fresh);
  const session = await auth.login({ email: user.email, password });
  expect((await auth.call("GET", `/auth/users/${user.id}/sessions`, { token: fresh })).body.items).toHaveLength(1);
  expect((await auth.call("POST", `/auth/users/${user.id}:endSessions`, { token: fresh })).body).toEqual({ ended: 1 });
  expect((await auth.call("GET", "/auth/me", { token: session.token })).status).toBe(401);
});

test("a token names the teams of its user; leaving a team ends the sessions that name it", async () => {
  const { token: fresh } = await auth.login();
  const name = `Ward ${Date.now()}`;
  const team = await auth.call("POST", "/auth/teams", { token: fresh, body: { name } });
  expect(team).toMatchObject({ status: 201, body: { name, members: 0 } });
  expect((await auth.call("POST", "/auth/teams", { token: fresh, body: { name: name.toUpperCase() } })).status).toBe(409);
  const user = await newUserBy(fresh);
  const membership = `/auth/teams/${team.body.id}/members/${user.id}`;
  for (let i = 0; i < 2; i++) expect((await auth.call("PUT", membership, { token: fresh })).status).toBe(204);
  const session = await auth.login({ email: user.email, password });
  expect(decodeJwt(session.token).teams).toEqual([team.body.id]);
  expect((await auth.call("GET", `/auth/users?teamId=${team.body.id}`, { token: fresh })).body.items).toMatchObject([{ id: user.id }]);
  expect((await auth.call("GET", `/auth/teams/${team.body.id}`, { token: session.token })).body).toMatchObject({ members: 1 });
  expect((await auth.call("DELETE", membership, { token: session.token })).status).toBe(403);
  expect((await auth.call("DELETE", membership, { token: fresh })).status).toBe(204);
  expect((await auth.call("GET", "/auth/me", { token: session.token })).status).toBe(401);
  expect(decodeJwt((await auth.login({ email: user.email, password })).token).teams).toEqual([]);
  expect((await auth.call("DELETE", `/auth/teams/${team.body.id}`, { token: fresh })).status).toBe(204);
  expect((await auth.call("GET", `/auth/teams/${team.body.id}`, { token: fresh })).status).toBe(404);
});

async function newUserBy(fresh: string): Promise<User> {
  const { body } = await auth.call("POST", "/auth/users", { token: fresh, body: { email: freshEmail(), role: "user", password } });
  return body as unknown as User;
}

test.each(["/auth/users/{id}", "/auth/teams/{id}", "/auth/users/{id}/sessions"])(
  "an unknown id at %s is 404, and no id is 400",
  async (path) => {
    const { token: fresh } = await auth.login();
    expect((await auth.call("GET", path.replace("{id}", "01890000-0000-7000-8000-000000000000"), { token: fresh })).status).toBe(404);
    expect((await auth.call("GET", path.replace("{id}", "nonsense"), { token: fresh })).status).toBe(400);
  },
);
