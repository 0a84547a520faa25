/** The totals of the ledger, which only services may read. */
import { createRoute, z } from "@hono/zod-openapi";
import type { RestApp } from "@pm/kit/http/rest";
import { jsonAnswer } from "@pm/kit/http/schemas";
import type { BillingDatabase } from "../tables.ts";
import { readTotals } from "./totals-store.ts";

const amount = z
  .string()
  .openapi({ description: "Minor units, as text, because many readers round JSON numbers above 2^53.", example: "125000" });
const TotalsSchema = z
  .object({
    asOf: z.iso.datetime().openapi({ example: "2026-11-27T12:00:00.000Z" }),
    accounts: z.object({ active: z.int(), suspended: z.int(), closed: z.int() }).openapi({
      description: "The number of accounts by status.",
      example: { active: 12, suspended: 1, closed: 0 },
    }),
    transactions: z.int().openapi({
      description: "The number of transactions. Each has one event.",
      example: 240,
    }),
    timeZone: z.string().openapi({ description: "The clinic's time zone, whose days count here.", example: "Europe/Berlin" }),
    pendingEvents: z.int().openapi({ description: "Events that are not in Kafka yet.", example: 0 }),
    currencies: z.array(
      z.object({
        currencyCode: z.string().openapi({ example: "EUR" }),
        charged: amount,
        voided: amount,
        paid: amount,
        refunded: amount,
        discounted: amount,
        credited: amount,
        writtenOff: amount,
        outstanding: amount,
        credit: amount,
      }),
    ),
  })
  .openapi("BillingTotals");

const readBillingTotals = createRoute({
  method: "get",
  path: "/billing:totals",
  operationId: "readBillingTotals",
  tags: ["Ledger"],
  summary: "Sum up the ledger, for consistency checks",
  responses: { 200: jsonAnswer(TotalsSchema, "The sums at one moment") },
});

export function registerTotals({ operation }: RestApp, options: { db: BillingDatabase; now: () => Date; clinicTimeZone: string }): void {
  const { db, now, clinicTimeZone } = options;
  operation(readBillingTotals, async (c) => {
    const asOf = now().toISOString();
    return c.json({ asOf, timeZone: clinicTimeZone, ...(await readTotals(db)) }, 200);
  });
}
