import { fromJsonString, type JsonValue } from "@bufbuild/protobuf";
import { createValidator } from "@bufbuild/protovalidate";
import { BillingService, CreateChargeRequestSchema } from "@pm/proto/billing/v1/billing";
import { BillingInternalService } from "@pm/proto/billing/v1/internal";
import fc from "fast-check";
import { expect, test } from "vitest";
import { messageOf, undecodableJson } from "./messages.ts";

const validator = createValidator();
const inputs = [...BillingService.methods, ...BillingInternalService.methods].map(({ input }) => input);

/** What callers read about a body: the wrong fields and what is wrong with them. */
function answersTo(input: (typeof inputs)[number], body: string): string[] {
  try {
    const result = validator.validate(input, fromJsonString(input, body));
    return result.kind === "invalid" ? result.violations.map(messageOf) : [];
  } catch (error) {
    const { options } = undecodableJson((error as Error).message) ?? {};
    return options?.errors?.map(({ path, message }) => `${path}: ${message}`) ?? [`not translated: ${(error as Error).message}`];
  }
}
const about = (body: object | string) =>
  answersTo(CreateChargeRequestSchema, typeof body === "string" ? body : JSON.stringify(body)).slice(0, 2);

test("a wrong message is explained in the words of REST", () => {
  expect(answersTo(CreateChargeRequestSchema, "{}")).toEqual(["is required", "is required", "must not be empty", "is required"]);
  expect(about({ accountId: "x" })[0]).toBe("must be a UUID");
  expect(about({ accountId: 5 })).toEqual(["account_id: must be a text"]);
  expect(about({ amount: { minorUnits: 1.5 } })).toEqual(["minor_units: must be a whole number in the range of its type"]);
  expect(about({ nope: 1 })).toEqual(["nope: is not a known field of billing.v1.CreateChargeRequest; check its spelling"]);
  expect(about('{"requestId":"a","requestId":"b"}')).toEqual(["requestId: is there twice"]);
  expect(about('{"requestId":"a","request_id":"b"}')).toEqual(["request_id: is there twice"]);
  expect(about({ tax: { mode: "X" } })).toEqual([': has a value that billing.v1.TaxMode does not have: "X"']);
  expect(about("{")).toEqual([": is not valid JSON"]);
  expect(about("[]")).toEqual([": has something that is not a billing.v1.CreateChargeRequest"]);
});

/** What protovalidate, protobuf and V8 say by themselves. */
const words =
  /not translated|cannot decode|[Ee]xpected|value (is|must)|a valid|regex|item\(s\)|oneof|in list|paths|Unexpected|position|unique/;

test("nobody reads the words of protovalidate or protobuf about what they send to billing", { timeout: 120_000 }, () => {
  const names = inputs.flatMap(({ fields }) => fields.map(({ jsonName }) => jsonName));
  const value = fc.oneof(
    fc.jsonValue({ maxDepth: 2 }),
    fc.constantFrom<JsonValue>("", "x".repeat(3_000), -1, 99, [], ["a", "a"], {}, "2026"),
  );
  const body = fc.oneof(
    fc.dictionary(fc.constantFrom(...names), value, { maxKeys: 6 }).map((one) => JSON.stringify(one)),
    fc.json(),
    fc.string(),
  );
  fc.assert(
    fc.property(fc.constantFrom(...inputs), body, (input, sent) => {
      for (const message of answersTo(input, sent)) expect(message.replace(/^.*?: /s, "")).not.toMatch(words);
    }),
    { numRuns: 1_000 },
  );
});
