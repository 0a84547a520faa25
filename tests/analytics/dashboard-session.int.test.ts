/**
 * What keeps a session of the dashboard alive: its person, and not the page that refreshes itself. Over a real auth.
 */
import { createRevocationList } from "@pm/kit/auth/revocation-list";
import { createVerifier } from "@pm/kit/auth/verifier";
import { decodeJwt } from "jose";
import { afterAll, expect, test } from "vitest";
import { createDashboardSessions } from "../../services/analytics/src/dashboard/session.ts";
import { admin, startAuth } from "../../services/auth/test/testing.ts";

const auth = await startAuth();
afterAll(() => auth.stop());

const request = { address: undefined, gatewaySecret: undefined, userAgent: undefined, requestId: "test" };
let minutesLater = 0;
const sessions = createDashboardSessions({
  authUrl: auth.url,
  verifier: createVerifier({
    authUrl: auth.url,
    issuer: "http://localhost:4004",
    audience: "patient-management",
    revocations: createRevocationList(),
  }),
  secret: "a secret of the dashboard",
  now: () => Date.now() + minutesLater * 60_000,
});

/** Signs in, and gives what a browser does: it keeps the last cookie. */
async function browser() {
  minutesLater = 0;
  let cookie: string = await sessions.signIn(admin, request);
  const look = async (isAct: boolean) => {
    const viewer = await sessions.viewer(cookie, request, { isAct });
    const isRenewed = viewer?.cookie !== undefined;
    cookie = viewer?.cookie ?? cookie;
    return viewer && { ...viewer, isRenewed };
  };
  const sessionId = decodeJwt((await look(false))?.caller.token ?? "").sid;
  const owner = (text: string, ...values: unknown[]) => auth.owner.query(text, [sessionId, ...values]);
  return {
    look,
    idleFor: (hours: number) => owner("update sessions set last_used_at = now() - make_interval(hours => $2) where id = $1", hours),
    async idleHours(): Promise<number> {
      const { rows } = await owner(
        "select round(extract(epoch from now() - last_used_at) / 3600)::int as hours from sessions where id = $1",
      );
      return rows[0].hours;
    },
  };
}

test("the page renews its tokens for as long as the session lives, and only what a person does makes it live longer", async () => {
  const { look, idleFor, idleHours } = await browser();
  await idleFor(6);
  for (const minutes of [2, 5, 10, 15]) {
    minutesLater = minutes;
    expect(await look(false), `after ${minutes} minutes`).toMatchObject({ isRenewed: minutes !== 2 });
    expect(await idleHours()).toBe(6);
  }
  // The token was just renewed. Auth is told all the same that the person is there, but not for each click.
  expect(await look(true)).toMatchObject({ isRenewed: true });
  expect(await idleHours()).toBe(0);
  expect(await look(true)).toMatchObject({ isRenewed: false });

  minutesLater = 30;
  await idleFor(13);
  expect(await look(false)).toBeUndefined();
  expect(await look(true)).toBeUndefined();
});

test("while auth does not answer, a person goes on with a token that is valid", async () => {
  const { look } = await browser();
  await auth.service.stop();
  minutesLater = 2;
  expect(await look(true)).toMatchObject({ isRenewed: false });
  minutesLater = 10;
  await expect(look(true)).rejects.toMatchObject({ code: "unavailable" });
});
