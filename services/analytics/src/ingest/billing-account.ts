/** What the events of a billing account count for: a pure function of the set of events, as in patient-record.ts. */

import { dayMs, type Instant } from "@pm/kit/calendar";
import type { Allocation } from "@pm/proto/billing/v1/events";
import type { Money } from "@pm/proto/common/v1/money";
import { agingBuckets, countOf, measures } from "../measures.ts";
import type { Facts } from "../rollups/aggregate.ts";
import { addMoney } from "../rollups/money.ts";
import type { LoggedBillingEvent } from "./event.ts";

const { charged, voided, discounted, credited, writtenOff, collected, refunded, invoiced, credit } = measures.billing;

type OpenCharge = { at: Instant; currency: string; changes: { at: Instant; amount: bigint }[] };

/** Adds the facts of an account. If a charge is allocated to before it is known, the allocation counts once it is. */
export function addAccountFacts(unordered: LoggedBillingEvent[], facts: Facts, sign: bigint): void {
  // Events have an order of their own, so the order in which they came does not matter.
  const events = unordered.toSorted((a, b) => a.at - b.at || (a.id < b.id ? -1 : 1));
  const charges = chargesIn(events);
  const currency = currencyOf(events);
  for (const event of events) addEventFacts(event, { charges, currency }, facts, sign);
  for (const charge of charges.values()) addAgingFacts(charge, facts, sign);
  if (events.length > 0) facts.holds(measures.accounts.status, statusOf(events), sign);
}

function chargesIn(events: LoggedBillingEvent[]): Map<string, OpenCharge> {
  const charges = new Map<string, OpenCharge>();
  for (const { at, change } of events) {
    if (change.case !== "chargeCreated" || !change.value.amount || charges.has(change.value.chargeId)) continue;
    const { currencyCode: currency, minorUnits } = change.value.amount;
    charges.set(change.value.chargeId, { at, currency, changes: [{ at, amount: minorUnits }] });
  }
  return charges;
}

type Account = { charges: Map<string, OpenCharge>; currency: string | undefined };

/** Adds the facts of one event, and its changes to the charges. */
function addEventFacts({ at, change }: LoggedBillingEvent, { charges, currency }: Account, facts: Facts, sign: bigint): void {
  const add = (measure: string, money: Money) => {
    addMoney(facts, measure, money.currencyCode, at, sign * money.minorUnits);
    facts.atInstant(countOf(measure), money.currencyCode, at, sign);
  };
  /**
   * Received money that is not allocated becomes credit. Money that is allocated and was not received comes from it.
   */
  const allocate = (allocations: Allocation[], currencyCode: string, received: bigint) => {
    let unallocated = received;
    for (const { chargeId, amount } of allocations) {
      if (!amount) continue;
      unallocated -= amount.minorUnits;
      charges.get(chargeId)?.changes.push({ at, amount: -amount.minorUnits });
    }
    addMoney(facts, credit, currencyCode, at, sign * unallocated);
  };
  if (change.case === "chargeCreated" && change.value.amount) {
    add(charged, change.value.amount);
    allocate(change.value.allocations, change.value.amount.currencyCode, 0n);
  } else if (change.case === "chargeVoided" && change.value.amount) {
    add(voided, change.value.amount);
    charges.get(change.value.chargeId)?.changes.push({ at, amount: -change.value.amount.minorUnits });
    allocate(change.value.allocations, change.value.amount.currencyCode, 0n);
  } else if (change.case === "paymentRecorded" && change.value.amount) {
    add(collected, change.value.amount);
    allocate(change.value.allocations, change.value.amount.currencyCode, change.value.amount.minorUnits);
  } else if (change.case === "paymentRefunded" && change.value.amount) {
    add(refunded, change.value.amount);
    allocate(change.value.allocations, change.value.amount.currencyCode, -change.value.amount.minorUnits);
  } else if (change.case === "chargeDiscounted" || change.case === "creditNoteIssued" || change.case === "writtenOff") {
    const { amount, reductions } = change.value;
    if (!amount) return;
    add({ chargeDiscounted: discounted, creditNoteIssued: credited, writtenOff }[change.case], amount);
    for (const { chargeId, amount: part } of reductions) if (part) charges.get(chargeId)?.changes.push({ at, amount: -part.minorUnits });
    if (change.case !== "writtenOff") allocate(change.value.allocations, amount.currencyCode, 0n);
  } else if (change.case === "paymentReallocated") {
    for (const { amount } of change.value.allocations.slice(0, 1)) allocate(change.value.allocations, amount?.currencyCode ?? "", 0n);
  } else if (change.case === "invoiceIssued" && change.value.total) {
    add(invoiced, change.value.total);
  } else if (change.case === "accountOpened") {
    facts.atInstant(measures.accounts.opened, currency ?? change.value.currencyCode, at, sign);
  }
}

/**
 * A charge grows older without an event. When it is 31, 61 and 91 days old, what is open of it moves to the next
 * bucket. These moves are facts of the future: they are added with the charge, and subtracted as it is settled. So
 * ageing on any day is a sum like all others.
 */
function addAgingFacts({ at: chargedAt, currency, changes }: OpenCharge, facts: Facts, sign: bigint): void {
  for (const { at, amount } of changes) {
    // An allocation cannot be older than its charge, even if clocks disagree.
    const since = Math.max(at, chargedAt);
    agingBuckets.forEach(({ measure, fromDay }, index) => {
      const entered = Math.max(since, chargedAt + fromDay * dayMs);
      const next = agingBuckets[index + 1];
      const left = next ? chargedAt + next.fromDay * dayMs : Number.POSITIVE_INFINITY;
      if (entered >= left) return;
      addMoney(facts, measure, currency, entered, sign * amount);
      if (Number.isFinite(left)) addMoney(facts, measure, currency, left, -sign * amount);
    });
  }
}

/** The currency that an account without transactions was last changed to; undefined if never. Events are in order. */
function currencyOf(events: LoggedBillingEvent[]): string | undefined {
  const last = events.findLast(({ change }) => change.case === "accountCurrencyChanged")?.change;
  return last?.case === "accountCurrencyChanged" ? last.value.currencyCode : undefined;
}

function statusOf(events: LoggedBillingEvent[]): string {
  let latest: { at: Instant; id: string; status: string } | undefined;
  for (const { at, id, change } of events) {
    if (change.case !== "accountStatusChanged") continue;
    if (!latest || at > latest.at || (at === latest.at && id > latest.id)) latest = { at, id, status: change.value.status };
  }
  return latest?.status ?? "ACTIVE";
}
