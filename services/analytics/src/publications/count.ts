/** What new events change in a publication, whatever the time of what they count for: corrections are counted too. */
import type { LoggedEvent } from "../ingest/event.ts";
import { addPatientFacts, changesOf } from "../ingest/patient-facts.ts";
import { addSignInFacts } from "../ingest/sign-in.ts";
import { countOf, measures } from "../measures.ts";
import type { Facts } from "../rollups/aggregate.ts";
import { moneyOf } from "../rollups/money.ts";
import { addTo, amountOf, type Counts, publishedWith, registeredByPlace } from "./figures.ts";
import type { AccountAmount } from "./types.ts";

const { registeredBy, registered, deleted, restored, merged, unmerged } = measures.patients;
const { charged, collected } = measures.billing;
const { signedIn, failed, failedBy, sessionsEnded, usersDisabled } = measures.activity;

/** What is published as it is counted. Amounts are added by account, and places by state and city. */
const counted: ReadonlySet<string> = new Set([
  ...[registered, registeredBy.sex, registeredBy.ageBand, deleted, restored, merged, unmerged],
  ...[countOf(charged), countOf(collected)],
  ...[signedIn, failed, failedBy, sessionsEnded, usersDisabled],
]);

/**
 * Adds what new events change to `counts`, and returns the amounts by account. `known` are all events of the same
 * patients before.
 */
export function countEvents(fresh: LoggedEvent[], known: LoggedEvent[], counts: Counts): AccountAmount[] {
  const amounts: AccountAmount[] = [];
  for (const { patientId, before, after } of changesOf(fresh, known)) {
    const money: Counts = new Map();
    countPatient(patientId, before, -1n, counts, money);
    countPatient(patientId, after, 1n, counts, money);
    for (const [measure, byCurrency] of money)
      for (const [value, amount] of byCurrency) if (amount !== 0n) amounts.push({ measure, value, account: patientId, amount });
  }
  const facts = factsInto((measure, value, amount) => {
    if (counted.has(measure)) addTo(counts, measure, value, amount);
  });
  for (const event of fresh) if (event.stream === "auth.v1") addSignInFacts(event, facts);
  return amounts;
}

function countPatient(patientId: string, events: LoggedEvent[], sign: 1n | -1n, counts: Counts, money: Counts): void {
  const place = { state: "", city: "" };
  let registrations = 0n;
  const add = (ownMeasure: string, value: string, amount: bigint) => {
    const measure = publishedWith(ownMeasure);
    if (measure === registered) registrations += amount;
    if (measure === registeredBy.city) place.city = value;
    if (measure === registeredBy.state) place.state = value;
    if (counted.has(measure)) addTo(counts, measure, value, amount);
    else if (amountOf(measure) === measure) {
      const { currency, minorUnits } = moneyOf(value, amount);
      addTo(money, measure, currency, minorUnits);
      addTo(counts, measure, currency, minorUnits);
    }
  };
  addPatientFacts(patientId, events, factsInto(add), sign);
  if (registrations !== 0n) addTo(counts, registeredByPlace, JSON.stringify([place.state, place.city]), registrations);
}

/** Facts without their times. What holds now is not published: its changes would tell single events. */
function factsInto(add: (measure: string, value: string, amount: bigint) => void): Facts {
  return {
    atInstant: (measure, value, _, amount) => add(measure, value, amount),
    onDate: (measure, value, _, amount) => add(measure, value, amount),
    holds: () => undefined,
  };
}
