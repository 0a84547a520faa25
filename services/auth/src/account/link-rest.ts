/** Over HTTP, without a session: signing up, resetting a password, and the pages and forms of mailed links. */
import { createRoute, z } from "@hono/zod-openapi";
import { invalidFields, toAppError, toProblem } from "@pm/kit/errors";
import { toInvalidFields } from "@pm/kit/http/request-input";
import type { RestApp, RestContext } from "@pm/kit/http/rest";
import { errorAnswers, jsonAnswer, jsonBody, ProblemSchema } from "@pm/kit/http/schemas";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import type { ContextOf } from "../client-address.ts";
import { Email, exampleId, LinkToken, NewPassword, newPasswordDescription, noContent, noStore, PersonName } from "../http/schemas.ts";
import { linkPage, linkPageHeaders } from "./link-page.ts";
import type { PasswordReset } from "./password-reset.ts";
import type { Signup } from "./signup.ts";

const tags = ["Account"];

const Accepted = z.object({ status: z.literal("accepted"), message: z.string() }).openapi("Accepted", {
  example: { status: "accepted", message: "If this address has an account, a mail says how to go on." },
});

const LinkAnswer = z.object({ token: LinkToken, password: NewPassword });
const linkExample = { token: "Zk3vQ0y8sX1mB7cT5nR9wE2pL6uJ4aHdGfKiOqYtSxM", password: "correct horse battery staple" };
/** Takes any text: `answerLink` checks a form, and answers a wrong one with a page. */
const LinkForm = z.object({
  token: z.string().openapi({ minLength: 1, maxLength: 256, example: linkExample.token }),
  password: z.string().openapi(newPasswordDescription),
});
// The page sends a form, programs send JSON. The document describes both by one schema: openapi-generator makes clients
// that do not compile if a form has a schema of its own beside one of JSON.
const linkBody = {
  content: {
    "application/json": { schema: LinkAnswer.partial().openapi("LinkAnswer", { example: linkExample }) },
    "application/x-www-form-urlencoded": { schema: LinkForm.partial().openapi("LinkAnswer", { example: linkExample }) },
  },
};
// Mail programs add parameters of their own to links.
const linkQuery = z.looseObject({ token: z.string().default("").openapi({ example: linkExample.token }) });
const page = (description: string) => ({ description, content: { "text/html": { schema: z.string() } } });
/** Programs get a problem, people get the page. Both say what is wrong. */
const invalid = {
  description: "The link or the password is not valid.",
  content: {
    ...page("").content,
    "application/problem+json": {
      schema: ProblemSchema,
      example: toProblem(invalidFields([{ path: "password", message: "must have at least 8 characters" }]), exampleId),
    },
  },
};

const signupRoute = createRoute({
  operationId: "signup",
  tags,
  method: "post",
  path: "/auth/signup",
  summary: "Sign up for an account",
  description:
    "The answer is the same whether the address has an account or not. By default, the account can sign in after its address was confirmed by mail, and has no role until an administrator gives it one (PATCH /auth/users/{id}).",
  request: {
    body: jsonBody(
      z.object({ email: Email, password: NewPassword, name: PersonName.default("") }).openapi({
        example: { email: "ada.lovelace@example.com", password: "correct horse battery staple", name: "Ada Lovelace" },
      }),
    ),
  },
  responses: { 202: jsonAnswer(Accepted, "Accepted"), ...errorAnswers("permission_denied", "resource_exhausted") },
});

const requestPasswordResetRoute = createRoute({
  operationId: "requestPasswordReset",
  tags,
  method: "post",
  path: "/auth/password-reset",
  summary: "Ask for a link to choose a new password",
  description: "The answer is the same whether the address has an account or not.",
  request: { body: jsonBody(z.object({ email: Email }).openapi({ example: { email: "ada.lovelace@example.com" } })) },
  responses: { 202: jsonAnswer(Accepted, "Accepted"), ...errorAnswers("resource_exhausted") },
});

const resetPasswordRoute = createRoute({
  operationId: "resetPassword",
  tags,
  method: "post",
  path: "/auth/password-reset/confirm",
  summary: "Choose a new password with the link of a mail",
  description: "Ends all sessions. A second factor stays.",
  request: { body: linkBody },
  responses: { ...noContent("The password is changed."), 200: page("The same, as the answer to a form"), 400: invalid },
});

const passwordResetPageRoute = createRoute({
  operationId: "passwordResetPage",
  tags,
  method: "get",
  path: "/auth/password-reset/confirm",
  summary: "The page behind the link of a mail",
  request: { query: linkQuery },
  responses: { 200: page("A form"), 400: invalid },
});

const acceptInviteRoute = createRoute({
  operationId: "acceptInvite",
  tags,
  method: "post",
  path: "/auth/invites/accept",
  summary: "Choose the password of an invited account, or confirm a signup with its password",
  request: { body: linkBody },
  responses: {
    ...noContent("The account can sign in."),
    200: page("The same, as the answer to a form"),
    400: invalid,
    ...errorAnswers("already_exists"),
  },
});

const invitePageRoute = createRoute({
  operationId: "invitePage",
  tags,
  method: "get",
  path: "/auth/invites/accept",
  summary: "The page behind the link of a mail",
  request: { query: linkQuery },
  responses: { 200: page("A form"), 400: invalid },
});

export function registerLinks(
  { operation }: RestApp,
  { signup, passwordReset, contextOf }: { signup: Signup; passwordReset: PasswordReset; contextOf: ContextOf },
): void {
  const accepted = (message: string) => ({ status: "accepted" as const, message });

  operation(signupRoute, async (c) => {
    await signup.signup(c.req.valid("json"), contextOf(c));
    return c.json(accepted("If this address can have an account, a mail says how to go on."), 202, noStore);
  });
  operation(requestPasswordResetRoute, async (c) => {
    await passwordReset.request(c.req.valid("json").email, contextOf(c));
    return c.json(accepted("If this address has an account, a mail says how to go on."), 202, noStore);
  });
  operation(resetPasswordRoute, (c) =>
    answerLink(c, "Choose a new password", ({ token, password }) => passwordReset.confirm(token, password, contextOf(c))),
  );
  operation(passwordResetPageRoute, (c) => showLinkPage(c, "Choose a new password", c.req.valid("query").token));
  operation(acceptInviteRoute, (c) =>
    answerLink(c, "Your account", ({ token, password }) => signup.acceptInvite(token, password, contextOf(c))),
  );
  operation(invitePageRoute, (c) => showLinkPage(c, "Your account", c.req.valid("query").token));
}

function showLinkPage(c: RestContext, title: string, token: string): Response {
  if (LinkToken.safeParse(token).success) return c.body(linkPage({ title, token }), 200, linkPageHeaders);
  return c.body(linkPage({ title, problem: "The link is incomplete. Copy all of it from the mail." }), 400, linkPageHeaders);
}

/**
 * Does what a link is for, with the password that was sent. Programs send JSON and get the usual answers. People send
 * the form of the page and always get a page, which says that the password is saved or what is wrong.
 */
async function answerLink(c: RestContext, title: string, act: (answer: z.infer<typeof LinkAnswer>) => Promise<void>): Promise<Response> {
  const isForm = c.req.header("content-type")?.startsWith("application/x-www-form-urlencoded");
  const sent = c.req.valid((isForm ? "form" : "json") as never) as Partial<z.infer<typeof LinkAnswer>>;
  try {
    const parsed = LinkAnswer.safeParse(sent);
    if (!parsed.success) throw toInvalidFields(parsed.error);
    await act(parsed.data);
  } catch (error) {
    const known = toAppError(error);
    if (!isForm) throw error;
    if (known.status >= 500) c.get("log").error({ err: known, requestId: c.get("requestId") }, "the form of a link failed");
    const { errors = [] } = known.options;
    const problem = errors.map(({ path, message }) => `The ${path === "token" ? "link" : path} ${message}.`).join(" ") || known.message;
    // If the link is wrong, another password does not help, so the page has no form.
    const token = errors.some(({ path }) => path === "token") ? undefined : sent.token;
    return c.body(linkPage({ title, problem, token }), known.status as ContentfulStatusCode, linkPageHeaders);
  }
  if (!isForm) return c.body(null, 204);
  return c.body(linkPage({ title: "Your password is saved", note: "You can close this page and sign in with it." }), 200, linkPageHeaders);
}
