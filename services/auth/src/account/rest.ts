/** A person's own account over HTTP: signup and links, profile, password, address, sessions. */
import { createRoute, z } from "@hono/zod-openapi";
import { AppError, invalidFields, toAppError } from "@pm/kit/errors";
import type { RestApp, RestContext } from "@pm/kit/http/rest";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import {
  actorOf,
  Email,
  idParams,
  jsonAnswer,
  jsonBody,
  LinkToken,
  NewPassword,
  noContent,
  noStore,
  type OriginOf,
  PersonName,
  Proof,
  SignedInAnswer,
  userOf,
} from "../http/schemas.ts";
import type { Sessions } from "../sessions/sessions.ts";
import type { Accounts } from "./account.ts";
import { linkPage, linkPageHeaders } from "./link-page.ts";

const LinkAnswer = z.object({ token: LinkToken, password: NewPassword });
/** From the page, a form; from programs, JSON. What is missing or too long is named by `linkAnswer`, in the words of either. */
const linkBody = {
  content: {
    "application/json": { schema: LinkAnswer.partial() },
    "application/x-www-form-urlencoded": { schema: z.object({ token: z.string(), password: z.string() }).partial() },
  },
};
const linkQuery = z.object({ token: z.string().default("") });
const page = (description: string) => ({ description, content: { "text/html": { schema: z.string() } } });

const Accepted = z.object({ status: z.literal("accepted"), message: z.string() }).openapi("Accepted");
const Me = z
  .object({
    id: z.string(),
    email: z.string(),
    name: z.string(),
    roles: z.array(z.string()),
    scopes: z.array(z.string()),
    teams: z.array(z.string()),
    secondFactor: z.boolean(),
    createdAt: z.iso.datetime(),
  })
  .openapi("Me");
const Session = z
  .object({
    id: z.string(),
    current: z.boolean(),
    address: z.string(),
    userAgent: z.string(),
    secondFactor: z.boolean(),
    createdAt: z.iso.datetime(),
    lastUsedAt: z.iso.datetime(),
    expiresAt: z.iso.datetime(),
  })
  .openapi("Session");

export function registerAccounts(
  { operation }: RestApp,
  { accounts, sessions, originOf }: { accounts: Accounts; sessions: Sessions; originOf: OriginOf },
): void {
  const me = (c: RestContext) => userOf(c.get("caller"));

  operation(
    createRoute({
      operationId: "signup",
      method: "post",
      path: "/auth/signup",
      summary: "Make an account with the role user",
      description:
        "The answer is the same whether the address has an account or not. By setting, a mail has to be answered before the account counts.",
      request: { body: jsonBody(z.object({ email: Email, password: NewPassword, name: PersonName.default("") })) },
      responses: { 202: jsonAnswer(Accepted, "Accepted") },
    }),
    async (c) => {
      await accounts.signup(c.req.valid("json"), originOf(c));
      return c.json(
        { status: "accepted" as const, message: "If this address can have an account, a mail says how to go on." },
        202,
        noStore,
      );
    },
  );

  operation(
    createRoute({
      operationId: "requestPasswordReset",
      method: "post",
      path: "/auth/password-reset",
      summary: "Ask for a link to choose a new password",
      description: "The answer is the same whether the address has an account or not.",
      request: { body: jsonBody(z.object({ email: Email })) },
      responses: { 202: jsonAnswer(Accepted, "Accepted") },
    }),
    async (c) => {
      await accounts.requestPasswordReset(c.req.valid("json").email, originOf(c));
      return c.json({ status: "accepted" as const, message: "If this address has an account, a mail says how to go on." }, 202, noStore);
    },
  );

  operation(
    createRoute({
      operationId: "resetPassword",
      method: "post",
      path: "/auth/password-reset/confirm",
      summary: "Choose a new password by the link of a mail",
      description: "Ends all sessions. A second factor stays.",
      request: { body: linkBody },
      responses: { ...noContent("The password is changed."), 200: page("The same, where a form was sent") },
    }),
    (c) => linkAnswer(c, "Choose a new password", ({ token, password }) => accounts.resetPassword(token, password, originOf(c))),
  );
  operation(
    createRoute({
      operationId: "passwordResetPage",
      method: "get",
      path: "/auth/password-reset/confirm",
      summary: "The page that the link of a mail leads to",
      request: { query: linkQuery },
      responses: { 200: page("A form") },
    }),
    (c) => showLinkPage(c, "Choose a new password", c.req.valid("query").token),
  );

  operation(
    createRoute({
      operationId: "acceptInvite",
      method: "post",
      path: "/auth/invites/accept",
      summary: "Choose the password of an invited account, or confirm a signup with its password",
      request: { body: linkBody },
      responses: { ...noContent("The account can sign in."), 200: page("The same, where a form was sent") },
    }),
    (c) => linkAnswer(c, "Your account", ({ token, password }) => accounts.acceptInvite(token, password, originOf(c))),
  );
  operation(
    createRoute({
      operationId: "invitePage",
      method: "get",
      path: "/auth/invites/accept",
      summary: "The page that the link of a mail leads to",
      request: { query: linkQuery },
      responses: { 200: page("A form") },
    }),
    (c) => showLinkPage(c, "Your account", c.req.valid("query").token),
  );

  operation(
    createRoute({
      operationId: "me",
      method: "get",
      path: "/auth/me",
      summary: "The account of the token that is sent",
      responses: { 200: jsonAnswer(Me, "The account") },
    }),
    async (c) => {
      const caller = me(c);
      const { id, email, name, roles, teams, second_factor, created_at } = await accounts.get(caller);
      const answer = { id, email, name, roles, scopes: [...caller.scopes], teams, secondFactor: second_factor };
      return c.json({ ...answer, createdAt: created_at.toISOString() }, 200, noStore);
    },
  );
  operation(
    createRoute({
      operationId: "renameMe",
      method: "patch",
      path: "/auth/me",
      summary: "Change one's name",
      request: { body: jsonBody(z.strictObject({ name: PersonName })) },
      responses: noContent("Changed"),
    }),
    async (c) => {
      await accounts.rename(me(c), c.req.valid("json").name, originOf(c));
      return c.body(null, 204);
    },
  );

  operation(
    createRoute({
      operationId: "changePassword",
      method: "post",
      path: "/auth/password",
      summary: "Change one's password",
      description: "Ends all sessions, this one included, and answers with a new one.",
      request: { body: jsonBody(z.object({ currentPassword: Proof.password, newPassword: NewPassword, code: Proof.code })) },
      responses: { 200: jsonAnswer(SignedInAnswer, "The new session") },
    }),
    async (c) => {
      const { currentPassword, newPassword, code } = c.req.valid("json");
      return c.json(await accounts.changePassword(me(c), { password: currentPassword, code }, newPassword, originOf(c)), 200, noStore);
    },
  );

  operation(
    createRoute({
      operationId: "changeEmail",
      method: "post",
      path: "/auth/email",
      summary: "Change one's e-mail address",
      description: "A code is sent to the new address. Where no mail is set up the address changes at once.",
      request: { body: jsonBody(z.object({ ...Proof, email: Email })) },
      responses: { 202: jsonAnswer(z.object({ status: z.enum(["code sent", "changed"]) }), "Accepted") },
    }),
    async (c) => {
      const { email, ...proof } = c.req.valid("json");
      return c.json({ status: await accounts.changeEmail(me(c), proof, email, originOf(c)) }, 202, noStore);
    },
  );
  operation(
    createRoute({
      operationId: "confirmEmail",
      method: "post",
      path: "/auth/email/confirm",
      summary: "Confirm a new e-mail address by the code that was sent to it",
      description: "Ends the user's other sessions.",
      request: { body: jsonBody(z.object({ token: LinkToken })) },
      responses: noContent("Changed"),
    }),
    async (c) => {
      await accounts.confirmEmail(me(c), c.req.valid("json").token, originOf(c));
      return c.body(null, 204);
    },
  );

  operation(
    createRoute({
      operationId: "listSessions",
      method: "get",
      path: "/auth/sessions",
      summary: "Where one is signed in",
      responses: { 200: jsonAnswer(z.object({ items: z.array(Session) }), "The sessions, the one used last first") },
    }),
    async (c) => {
      const caller = me(c);
      const rows = await sessions.list(caller.id);
      const items = rows.map((row) => ({
        id: row.id,
        current: row.id === caller.sessionId,
        address: row.address,
        userAgent: row.user_agent,
        secondFactor: row.second_factor,
        createdAt: row.created_at.toISOString(),
        lastUsedAt: row.last_used_at.toISOString(),
        expiresAt: row.expires_at.toISOString(),
      }));
      return c.json({ items }, 200, noStore);
    },
  );
  operation(
    createRoute({
      operationId: "endOtherSessions",
      method: "post",
      path: "/auth/sessions:endOthers",
      summary: "Sign out everywhere else",
      responses: { 200: jsonAnswer(z.object({ ended: z.int() }), "How many sessions have ended") },
    }),
    async (c) => {
      const caller = me(c);
      const ended = await sessions.end({ userId: caller.id, except: caller.sessionId }, "REVOKED", actorOf(c, originOf));
      return c.json({ ended }, 200, noStore);
    },
  );
  operation(
    createRoute({
      operationId: "endSession",
      method: "delete",
      path: "/auth/sessions/{id}",
      summary: "Sign out one of one's own sessions",
      request: { params: idParams },
      responses: noContent("It has ended everywhere."),
    }),
    async (c) => {
      const ended = await sessions.end({ userId: me(c).id, only: c.req.valid("param").id }, "REVOKED", actorOf(c, originOf));
      if (ended === 0) throw new AppError("not_found", "You have no such session.");
      return c.body(null, 204);
    },
  );
}

function showLinkPage(c: RestContext, title: string, token: string): Response {
  if (LinkToken.safeParse(token).success) return c.body(linkPage({ title, token }), 200, linkPageHeaders);
  return c.body(linkPage({ title, problem: "The link is not whole. Copy all of it from the mail." }), 400, linkPageHeaders);
}

/**
 * Does what a link is for, with what came with it: JSON from programs, a form from the page. Who sent a form is a person, who
 * sees a page in any case: that it is done, or what was wrong.
 */
async function linkAnswer(c: RestContext, title: string, act: (answer: z.infer<typeof LinkAnswer>) => Promise<void>): Promise<Response> {
  const isForm = c.req.header("content-type")?.startsWith("application/x-www-form-urlencoded");
  const sent = c.req.valid((isForm ? "form" : "json") as never) as Partial<z.infer<typeof LinkAnswer>>;
  try {
    const parsed = LinkAnswer.safeParse(sent);
    if (!parsed.success) throw invalidFields(parsed.error.issues.map(({ path, message }) => ({ path: path.join("."), message })));
    await act(parsed.data);
  } catch (error) {
    const known = toAppError(error);
    if (!isForm) throw error;
    if (known.status >= 500) c.get("log").error({ err: known, requestId: c.get("requestId") }, "the form of a link failed");
    const { errors = [] } = known.options;
    const problem = errors.map(({ path, message }) => `The ${path === "token" ? "link" : path} ${message}.`).join(" ") || known.message;
    // Where the link is what is wrong, another password does not help.
    const token = errors.some(({ path }) => path === "token") ? undefined : sent.token;
    return c.body(linkPage({ title, problem, token }), known.status as ContentfulStatusCode, linkPageHeaders);
  }
  if (!isForm) return c.body(null, 204);
  return c.body(linkPage({ title: "Your password is saved", note: "You can close this page and sign in with it." }), 200, linkPageHeaders);
}
