/**
 * The numbers of a patient are one function of all events of the patient. A change of the roll-ups is that function
 * after the change, less that function before it. Ingestion and rebuilds use the same function, so they agree.
 */
import { measures } from "../measures.ts";
import type { Facts } from "../rollups/aggregate.ts";
import { addAccountFacts } from "./billing-account.ts";
import type { LoggedBillingEvent, LoggedEvent, LoggedPatientEvent } from "./event.ts";
import { addRecordFacts } from "./patient-record.ts";
import { addSignInFacts } from "./sign-in.ts";

/** Adds the facts of a patient, or subtracts them if `sign` is -1. `events` are all that touch the patient. */
export function addPatientFacts(patientId: string, events: Iterable<LoggedEvent>, facts: Facts, sign: 1n | -1n): void {
  const own: LoggedPatientEvent[] = [];
  const mergesOfOthers: LoggedPatientEvent[] = [];
  const accounts = new Map<string, LoggedBillingEvent[]>();
  for (const event of events) {
    if (event.stream === "patient.v1") {
      if (event.patientId === patientId) own.push(event);
      else if (event.otherPatientId === patientId) mergesOfOthers.push(event);
    } else if (event.stream === "billing.v1" && event.patientId === patientId) {
      const known = accounts.get(event.accountId);
      if (known) known.push(event);
      else accounts.set(event.accountId, [event]);
    }
  }
  addRecordFacts(patientId, own, mergesOfOthers, facts, sign);
  for (const account of accounts.values()) addAccountFacts(account, facts, sign);

  // Any event shows that a record or an account exists. Only counts are kept; `unmatchedPatients` finds the ids.
  if (own.length > 0 && accounts.size === 0) facts.holds(measures.consistency.patientsWithoutAccount, "", sign);
  if (accounts.size > 0 && own.length === 0) facts.holds(measures.consistency.accountsWithoutPatient, "", sign);
}

/** What new events make of each patient: all events of the patient before and after them. */
type Change = { patientId: string; before: LoggedEvent[]; after: LoggedEvent[] };

/** The patients that new events touch. `known` are all earlier events of these; it may have the new ones too. */
export function* changesOf(fresh: LoggedEvent[], known: LoggedEvent[]): Generator<Change> {
  const freshIds = new Set(fresh.map((event) => event.id));
  const older = groupByPatient(known.filter((event) => !freshIds.has(event.id)));
  for (const [patientId, events] of groupByPatient(fresh)) {
    const before = older.get(patientId) ?? [];
    yield { patientId, before, after: [...before, ...events] };
  }
}

/** Adds what new events change. `known` is as above. */
export function addChangedFacts(fresh: LoggedEvent[], known: LoggedEvent[], facts: Facts): void {
  for (const { patientId, before, after } of changesOf(fresh, known)) {
    addPatientFacts(patientId, before, facts, -1n);
    addPatientFacts(patientId, after, facts, 1n);
  }
  for (const event of fresh) if (event.stream === "auth.v1") addSignInFacts(event, facts);
}

/** The patients whose numbers an event changes. */
export function patientsOf({ patientId, otherPatientId }: Pick<LoggedEvent, "patientId" | "otherPatientId">): string[] {
  return [...new Set([patientId, otherPatientId].filter((id) => id !== null))];
}

function groupByPatient(events: LoggedEvent[]): Map<string, LoggedEvent[]> {
  const groups = new Map<string, LoggedEvent[]>();
  for (const event of events) {
    for (const patientId of patientsOf(event)) {
      const group = groups.get(patientId);
      if (group) group.push(event);
      else groups.set(patientId, [event]);
    }
  }
  return groups;
}
