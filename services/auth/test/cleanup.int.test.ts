import { createHash } from "node:crypto";
import { decodeJwt } from "jose";
import { Client } from "pg";
import { afterAll, expect, test } from "vitest";
import { cleanUp } from "../src/cleanup-store.ts";
import { startAuth } from "./testing.ts";

const auth = await startAuth();
afterAll(() => auth.stop());

test("what has ended goes after a day, what is alive stays, and a refresh token whose successor was used keeps nothing but its use", async () => {
  const [alive, loggedOut, expired, idle] = [await auth.login(), await auth.login(), await auth.login(), await auth.login()];
  const sessionOf = ({ token }: { token: string }) => String(decodeJwt(token).sid);
  const refreshed = await auth.call("POST", "/auth/refresh", { body: { refreshToken: alive.refreshToken } });
  await auth.call("POST", "/auth/logout", { token: loggedOut.token });
  const client = new Client({ connectionString: auth.env.DATABASE_URL });
  await client.connect();
  const clean = () => cleanUp(client, 12 * 3_600);

  await auth.owner.query("update sessions set expires_at = now() - interval '1 hour' where id = $1", [sessionOf(expired)]);
  await auth.owner.query("update refresh_tokens set used_at = used_at - interval '1 minute'");
  expect(await clean()).toBe("done");
  expect((await client.query("select count(*)::int as n from sessions")).rows).toEqual([{ n: 4 }]);
  const answers = async () =>
    (await client.query("select count(*)::int as n from refresh_tokens where sealed_answer is not null")).rows[0].n;
  expect(await answers()).toBe(1);
  // The client may not have received its answer, so the answer stays until the successor is used.
  await auth.owner.query("update refresh_tokens set used_at = used_at - interval '1 hour'");
  await clean();
  expect(await answers()).toBe(1);
  await auth.call("POST", "/auth/refresh", { body: { refreshToken: refreshed.body.refreshToken } });
  await clean();
  expect(await answers()).toBe(1);

  await auth.owner.query(
    "update sessions set expires_at = expires_at - interval '1 day', revoked_at = revoked_at - interval '25 hours', last_used_at = last_used_at - case when id = $1 then interval '37 hours' else '0' end where id <> $2",
    [sessionOf(idle), sessionOf(alive)],
  );
  await auth.owner.query("update refresh_tokens set used_at = used_at - interval '10 minutes'");
  await auth.owner.query("update throttles set updated_at = updated_at - interval '1 day'");
  await client.query(
    "insert into ended_client_sessions select gen_random_uuid(), now() - n * interval '23 hours' from generate_series(1, 2) n",
  );
  const made = await auth.call("POST", "/auth/clients", { token: alive.token, body: { name: "Laboratory", scopes: ["patient:read"] } });
  await client.query(
    "insert into client_assertions select $1, n::text::bytea, now() - n * interval '50 minutes' from generate_series(1, 2) n",
    [made.body.id],
  );
  await clean();
  for (const table of ["ended_client_sessions", "client_assertions"])
    expect([table, (await client.query(`select count(*)::int as n from ${table}`)).rows[0]]).toEqual([table, { n: 1 }]);
  expect((await client.query("select id from sessions")).rows).toEqual([{ id: sessionOf(alive) }]);
  expect((await client.query("select count(*)::int as n from throttles")).rows).toEqual([{ n: 0 }]);
  const hash = createHash("sha256").update(alive.refreshToken).digest();
  const { rows } = await client.query("select used_at is not null as used, sealed_answer from refresh_tokens where hash = $1", [hash]);
  expect(rows).toEqual([{ used: true, sealed_answer: null }]);
  await client.end();
});
