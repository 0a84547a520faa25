import { Code, ConnectError } from "@connectrpc/connect";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "@pm/proto/google/rpc/error_details";
import { expect, test } from "vitest";
import { AppError, invalidFields, toAppError, toConnectError, toErrorResponse } from "./errors.ts";

test("a problem names code, status, request id and every wrong field", async () => {
  const error = invalidFields([
    { path: "email", message: "must be an e-mail address" },
    { path: "address.zipCode", message: "is too long" },
  ]);
  const response = toErrorResponse(error, "request-1");
  expect(response.status).toBe(400);
  expect(response.headers.get("content-type")).toBe("application/problem+json");
  expect(await response.json()).toEqual({
    type: "about:blank",
    title: "Invalid request",
    status: 400,
    detail: "email: must be an e-mail address (and 1 more)",
    code: "invalid_argument",
    requestId: "request-1",
    errors: [
      { path: "email", message: "must be an e-mail address" },
      { path: "address.zipCode", message: "is too long" },
    ],
  });
});

test.each([
  ["an unknown error", toAppError(new Error("x")), true],
  ["the database away", toAppError(Object.assign(new Error("x"), { code: "ECONNREFUSED" })), true],
  ["a service behind away", toAppError(new ConnectError("x", Code.Unavailable)), true],
  ["internal without a cause", new AppError("internal", "x"), true],
  ["too many at once", new AppError("unavailable", "x", { retryAfterSeconds: 1 }), false],
  ["bad input", new AppError("invalid_argument", "x", { cause: new Error("x") }), false],
  ["not found", new AppError("not_found", "x"), false],
])("%s is for the operator to look at, or is not", (_, error, isFailure) => {
  expect(error.isFailure).toBe(isFailure);
});

test("an unknown error says nothing about itself", async () => {
  const response = toErrorResponse(toAppError(new Error("password of jane@example.com is hunter2")), "request-1");
  expect(response.status).toBe(500);
  expect(await response.text()).not.toMatch(/hunter2|jane/);
});

test("401 has WWW-Authenticate, 503 has Retry-After", () => {
  expect(toErrorResponse(new AppError("unauthenticated", "…"), "r").headers.get("www-authenticate")).toBe("Bearer");
  expect(toErrorResponse(new AppError("unavailable", "…", { retryAfterSeconds: 1.2 }), "r").headers.get("retry-after")).toBe("2");
});

test.each(["ECONNREFUSED", "08006", "57P01", "53300", "28P01"])("a lost database (%s) is 503 and worth another try", (code) => {
  const error = toAppError(Object.assign(new Error("lost"), { code }));
  expect(error.code).toBe("unavailable");
  expect(error.options.retryAfterSeconds).toBe(1);
});

test("a wait for a connection that others use does not call the database away, and is worth another try", () => {
  const error = toAppError(new Error("timeout exceeded when trying to connect"));
  expect([error.code, error.message, error.options.retryAfterSeconds]).toEqual([
    "unavailable",
    "Too many requests are at work: all connections to the database are in use. Try again shortly.",
    1,
  ]);
  expect(toAppError(new Error("timeout expired")).message).toContain("cannot be reached");
});

test.each(["22021", "22P05"])("a text that Postgres refuses (%s) is the caller's to mend, and is not repeated", (code) => {
  const error = toAppError(Object.assign(new Error("invalid byte sequence in a name"), { code }));
  expect([error.code, error.status, error.isFailure]).toEqual(["invalid_argument", 400, false]);
  expect(error.message).not.toContain("a name");
});

test("gRPC errors carry ErrorInfo, BadRequest and RetryInfo", () => {
  const error = toConnectError(
    new AppError("resource_exhausted", "slow down", {
      reason: "TOO_FAST",
      errors: [{ path: "amount", message: "too much" }],
      retryAfterSeconds: 3,
    }),
  );
  expect(error.code).toBe(Code.ResourceExhausted);
  const [info] = error.findDetails(ErrorInfoSchema);
  expect(info).toMatchObject({ reason: "TOO_FAST", domain: "patient-management" });
  expect(error.findDetails(BadRequestSchema)[0]?.fieldViolations[0]).toMatchObject({ field: "amount", description: "too much" });
  expect(error.findDetails(RetryInfoSchema)[0]?.retryDelay?.seconds).toBe(3n);
});

test("an error of another service becomes unavailable or internal, and its text stays inside", () => {
  expect(toAppError(new ConnectError("secret", Code.Unavailable))).toMatchObject({ code: "unavailable" });
  const internal = toAppError(new ConnectError("secret", Code.PermissionDenied));
  expect(internal.code).toBe("internal");
  expect(internal.message).not.toContain("secret");
});
