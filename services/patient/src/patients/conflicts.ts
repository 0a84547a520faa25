/**
 * How much a refusal may tell. That an e-mail address or identifier is taken by a patient whom the caller may not see
 * is a fact about that patient. Who registers patients has to learn it now and then; who asks for a list of addresses
 * must not get through it.
 */
import { createBatcher } from "@pm/kit/batcher";
import { AppError } from "@pm/kit/errors";
import { type Call, viewerOf } from "../caller.ts";
import type { RecordSettings } from "../config.ts";
import type { PatientDatabase } from "../database.ts";
import { identifierName, type PatientRecord } from "../tables.ts";
import { askAboutConflicts, type Claim, fieldOf, type Question, type Verdict } from "./conflicts-store.ts";
import { emailKeyOf } from "./record.ts";

export type Conflicts = ReturnType<typeof createConflicts>;

/** What no two living patients share of a record, apart from what the living patient had `before`. */
export function claimsOf(record: PatientRecord, settings: RecordSettings, before?: PatientRecord): Claim[] {
  const { email, identifiers = [] } = record;
  const key = email === before?.email ? undefined : emailKeyOf(record, settings);
  const had = (before?.identifiers ?? []).map(identifierName);
  return [
    ...(email !== undefined && key !== undefined ? [{ kind: "email" as const, email, key }] : []),
    ...identifiers
      .filter((identifier) => !had.includes(identifierName(identifier)))
      .map(({ system, value }) => ({ kind: "identifier" as const, system, value })),
  ];
}

export function createConflicts({ db }: { db: PatientDatabase }) {
  const questions = createBatcher<Question, Verdict>({
    name: "conflicts",
    maxSize: 64,
    run: (questions) => askAboutConflicts(db, questions),
  });

  async function ask(question: Question): Promise<Verdict> {
    const verdict = await questions.add(question);
    if (verdict.kind === "refused") throw toldTooOften(question.claims, verdict.retryAfterSeconds);
    return verdict;
  }

  return {
    /**
     * Does a write that fails with `already_exists` if a value is taken, and counts the failures that tell of a patient
     * whom the caller may not see.
     * @param claims what the record has after the write and did not have before
     * @throws AppError resource_exhausted, and does not write, if the caller was told too often; conflicts or not
     */
    async counted<Result>(call: Call, patientId: string | undefined, claims: Claim[], write: () => Promise<Result>): Promise<Result> {
      const viewer = viewerOf(call.caller);
      if (viewer.seesAll || claims.length === 0) return write();
      const question = { viewer, requestId: call.requestId, claims, patientId };
      const verdict = await ask(question);
      try {
        return await write();
      } catch (error) {
        // Somebody else took the value after the question. That is told and counted as well.
        if (verdict.kind === "free" && error instanceof AppError && error.code === "already_exists") await ask(question);
        throw error;
      }
    },
  };
}

/** The same whether there is a conflict or not: nobody has looked. */
function toldTooOften(claims: Claim[], retryAfterSeconds: number): AppError {
  const message = `${fieldOf(claims)}: could not be checked. Within an hour, you met too many addresses or identifiers of patients whom you may not see. Ask an administrator, or try again later.`;
  // Who asks on is in the audit trail.
  return new AppError("resource_exhausted", message, { reason: "TOO_MANY_CONFLICTS_TOLD", retryAfterSeconds, refused: {} });
}
