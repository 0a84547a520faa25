/** What the events of a billing account count for. A pure function of the set of events, like patients.ts. */

import type { Allocation } from "@pm/proto/billing/v1/events";
import type { Money } from "@pm/proto/common/v1/money";
import { dayMs, type Instant } from "../calendar.ts";
import type { Facts } from "../rollups/aggregate.ts";
import { countMoney } from "../rollups/money.ts";
import type { LoggedEvent } from "./event.ts";

type BillingEvent = Extract<LoggedEvent, { stream: "billing.v1" }>;

/** What money did, in minor units of the currency that is the fact's value. */
export const moneyFlows = [
  "billing.charged",
  "billing.voided",
  "billing.collected",
  "billing.refunded",
  "billing.invoiced",
  /** Changes of what patients have paid ahead. */
  "billing.credit",
] as const;

/** How long charges have been open, by full days since the charge. Their sum is what is outstanding. */
export const agingBuckets = [
  { measure: "billing.open.0-30", label: "0–30", fromDay: 0 },
  { measure: "billing.open.31-60", label: "31–60", fromDay: 31 },
  { measure: "billing.open.61-90", label: "61–90", fromDay: 61 },
  { measure: "billing.open.90+", label: "90+", fromDay: 91 },
] as const;

type OpenCharge = { at: Instant; currency: string; changes: { at: Instant; amount: bigint }[] };

/** Adds what an account's events count for. Allocations to a charge that is not known yet wait for it. */
export function tallyAccount(unordered: BillingEvent[], tally: Facts, sign: bigint): void {
  // An order of their own, so that it does not matter in which one they came.
  const events = unordered.toSorted((a, b) => a.at - b.at || (a.id < b.id ? -1 : 1));
  const charges = new Map<string, OpenCharge>();
  for (const { at, what } of events) {
    if (what.case !== "chargeCreated" || !what.value.amount || charges.has(what.value.chargeId)) continue;
    const { currencyCode: currency, minorUnits } = what.value.amount;
    charges.set(what.value.chargeId, { at, currency, changes: [{ at, amount: minorUnits }] });
  }

  for (const { at, what } of events) {
    const flow = (measure: (typeof moneyFlows)[number], money: Money) => {
      countMoney(tally, measure, money.currencyCode, at, sign * money.minorUnits);
      if (measure !== "billing.credit") tally.atInstant(`${measure}.count`, money.currencyCode, at, sign);
    };
    /** What came in and was not allocated is credit; what was allocated and did not come in is taken from it. */
    const allocate = (allocations: Allocation[], currencyCode: string, received: bigint) => {
      let credit = received;
      for (const { chargeId, amount } of allocations) {
        if (!amount) continue;
        credit -= amount.minorUnits;
        charges.get(chargeId)?.changes.push({ at, amount: -amount.minorUnits });
      }
      countMoney(tally, "billing.credit", currencyCode, at, sign * credit);
    };
    if (what.case === "chargeCreated" && what.value.amount) {
      flow("billing.charged", what.value.amount);
      allocate(what.value.allocations, what.value.amount.currencyCode, 0n);
    } else if (what.case === "chargeVoided" && what.value.amount) {
      flow("billing.voided", what.value.amount);
      charges.get(what.value.chargeId)?.changes.push({ at, amount: -what.value.amount.minorUnits });
      allocate(what.value.allocations, what.value.amount.currencyCode, 0n);
    } else if (what.case === "paymentRecorded" && what.value.amount) {
      flow("billing.collected", what.value.amount);
      allocate(what.value.allocations, what.value.amount.currencyCode, what.value.amount.minorUnits);
    } else if (what.case === "paymentRefunded" && what.value.amount) {
      flow("billing.refunded", what.value.amount);
      allocate(what.value.allocations, what.value.amount.currencyCode, -what.value.amount.minorUnits);
    } else if (what.case === "invoiceIssued" && what.value.total) {
      flow("billing.invoiced", what.value.total);
    } else if (what.case === "accountOpened") {
      tally.atInstant("accounts.opened", what.value.currencyCode, at, sign);
    }
  }
  for (const charge of charges.values()) tallyAging(charge, tally, sign);

  if (events.length > 0) tally.holds("accounts.status", statusOf(events), sign);
}

/**
 * A charge grows older by itself: at each border of age, what is open then moves to the next bucket. These moves are facts
 * of the future, written when the charge is made and taken back as it is settled, so that ageing on any day is a sum like
 * all others.
 */
function tallyAging({ at: chargedAt, currency, changes }: OpenCharge, tally: Facts, sign: bigint): void {
  for (const { at, amount } of changes) {
    // An allocation cannot be older than its charge, whatever the clocks say.
    const since = Math.max(at, chargedAt);
    agingBuckets.forEach(({ measure, fromDay }, index) => {
      const entered = Math.max(since, chargedAt + fromDay * dayMs);
      const next = agingBuckets[index + 1];
      const left = next ? chargedAt + next.fromDay * dayMs : Number.POSITIVE_INFINITY;
      if (entered >= left) return;
      countMoney(tally, measure, currency, entered, sign * amount);
      if (Number.isFinite(left)) countMoney(tally, measure, currency, left, -sign * amount);
    });
  }
}

function statusOf(events: BillingEvent[]): string {
  let latest: { at: Instant; id: string; status: string } | undefined;
  for (const { at, id, what } of events) {
    if (what.case !== "accountStatusChanged") continue;
    if (!latest || at > latest.at || (at === latest.at && id > latest.id)) latest = { at, id, status: what.value.status };
  }
  return latest?.status ?? "ACTIVE";
}
