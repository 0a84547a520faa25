/** What operators get, as the OpenAPI document shows it. */
import { z } from "@hono/zod-openapi";
import { nextCursor } from "@pm/kit/http/paging";
import { AsOfSchema, exampleAsOf } from "../reports/schemas.ts";
import { maxIds } from "./consistency.ts";

const count = z.int();
const exampleId = "0193b3f0-8c1a-7b6e-9d2f-3a4b5c6d7e8f";

export const RebuildSchema = z
  .object({
    id: z.string(),
    state: z.enum(["waiting", "running", "done"]),
    eventsDone: count,
    eventsTotal: count,
    requestedAt: z.iso.datetime(),
    startedAt: z.iso.datetime().nullable(),
    finishedAt: z.iso.datetime().nullable(),
  })
  .openapi("Rebuild", {
    example: {
      id: "1",
      state: "running",
      eventsDone: 120_000,
      eventsTotal: 400_000,
      requestedAt: "2026-11-21T16:00:00.000Z",
      startedAt: "2026-11-21T16:00:02.000Z",
      finishedAt: null,
    },
  });

const deadLetter = {
  id: z.string(),
  eventId: z.uuid(),
  topic: z.string(),
  partition: z.int(),
  offset: z.string(),
  key: z.string(),
  type: z.string(),
  eventTime: z.iso.datetime(),
  reason: z.string().openapi({ description: "Why the event could not be counted." }),
  tries: z.int().openapi({ description: "0 if it only follows an earlier dead letter of its key." }),
  state: z.enum(["waiting", "replayed", "discarded"]),
  failedAt: z.iso.datetime(),
  settledAt: z.iso.datetime().nullable().openapi({ description: "When it was replayed or discarded." }),
};
const exampleDeadLetter = {
  id: "1",
  eventId: exampleId,
  topic: "patient.v1",
  partition: 0,
  offset: "1204",
  key: "0193b3f0-8c1a-7b6e-9d2f-3a4b5c6d7e90",
  type: "patient.v1.registered",
  eventTime: "2026-11-21T16:00:00.000Z",
  reason: "patient_id is not a UUID",
  tries: 5,
  state: "waiting" as const,
  failedAt: "2026-11-21T16:00:05.000Z",
  settledAt: null,
};
export const DeadLetterSchema = z
  .object({ ...deadLetter, payload: z.string().openapi({ description: "The event as it was sent, in base64." }) })
  .openapi("DeadLetter", { example: { ...exampleDeadLetter, payload: "CgZub2JvZHk=" } });
export const DeadLettersSchema = z
  .object({
    items: z.array(z.object(deadLetter)),
    nextCursor,
  })
  .openapi("DeadLetters", { example: { items: [exampleDeadLetter], nextCursor: "1" } });
export const ReplaySchema = z
  .object({
    replayed: count.openapi({ description: "How many were counted." }),
    waiting: count.openapi({ description: "How many still wait." }),
  })
  .openapi("Replay", { example: { replayed: 2, waiting: 0 } });

const unmatched = z.object({ count, ids: z.array(z.uuid()).max(maxIds).openapi({ description: "The newest of them." }) });

export const ConsistencySchema = z
  .object({
    asOf: AsOfSchema,
    drift: count.openapi({ description: "How many checks do not hold; 0 is expected." }),
    settled: z.boolean().openapi({
      description: "Whether the numbers of both sides stood still while they were compared. If not, compare again.",
    }),
    checks: z.array(
      z.object({
        name: z.string(),
        here: z.string().openapi({ description: "What analytics has counted." }),
        there: z.string().openapi({ description: "What the service that owns the data has." }),
        holds: z.boolean(),
      }),
    ),
    patientsWithoutAccount: unmatched,
    accountsWithoutPatient: unmatched,
    deadLetters: count.openapi({ description: "Events that wait for an operator." }),
    lag: count.nullable().openapi({ description: "Events in Kafka that are not counted yet; null if Kafka does not answer." }),
  })
  .openapi("Consistency", {
    example: {
      asOf: exampleAsOf,
      drift: 0,
      settled: true,
      checks: [{ name: "patients", here: "1059", there: "1059", holds: true }],
      patientsWithoutAccount: { count: 1, ids: [exampleId] },
      accountsWithoutPatient: { count: 0, ids: [] },
      deadLetters: 0,
      lag: 0,
    },
  });
