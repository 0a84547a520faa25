import { create } from "@bufbuild/protobuf";
import { AuthEventSchema } from "@pm/proto/auth/v1/events";
import { expect, test } from "vitest";
import { measures } from "../measures.ts";
import { createAggregate } from "../rollups/aggregate.ts";
import { addSignInFacts } from "./sign-in.ts";

function sessionsEnded(userId: string): number {
  const { event: change } = create(AuthEventSchema, { event: { case: "sessionRevoked", value: { userId, sessionId: "s" } } });
  const facts = createAggregate();
  addSignInFacts(
    { id: "1", stream: "auth.v1", at: Date.parse("2026-11-05T10:00:00Z"), patientId: null, otherPatientId: null, version: 0n, change },
    facts,
  );
  return [...facts.rows()].filter(({ measure }) => measure === measures.activity.sessionsEnded).length;
}

test("the end of a person's session counts, and the revoked tokens of an API client do not", () => {
  expect(sessionsEnded("0198c0de-7d5a-7c3b-8a51-5d0c2f9b6e10")).toBeGreaterThan(0);
  expect(sessionsEnded("client:0198c0de-7d5a-7c3b-8a51-5d0c2f9b6e10")).toBe(0);
});
