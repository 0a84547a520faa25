/**
 * A patient's numbers as one function of everything known about the patient, and changes to roll-ups as differences of that
 * function. The incremental way and a rebuild use the same two functions, so they cannot disagree for long.
 */

import type { Facts } from "../rollups/aggregate.ts";
import { tallyAccount } from "./billing-account.ts";
import type { LoggedEvent } from "./event.ts";
import { tallyPatient } from "./patient-record.ts";
import { tallySignIn } from "./sign-in.ts";

/** Adds, or with `sign` -1 takes away, what everything known about a patient counts for. */
export function tallySubject(patient: string, events: Iterable<LoggedEvent>, tally: Facts, sign: 1n | -1n): void {
  const own: Extract<LoggedEvent, { stream: "patient.v1" }>[] = [];
  const merges: typeof own = [];
  const accounts = new Map<string, Extract<LoggedEvent, { stream: "billing.v1" }>[]>();
  for (const event of events) {
    if (event.stream === "patient.v1") {
      if (event.subject === patient) own.push(event);
      else if (event.related === patient) merges.push(event);
    } else if (event.stream === "billing.v1" && event.subject === patient) {
      const known = accounts.get(event.account);
      if (known) known.push(event);
      else accounts.set(event.account, [event]);
    }
  }
  tallyPatient(patient, own, merges, tally, sign);
  for (const account of accounts.values()) tallyAccount(account, tally, sign);

  // Only how many there are; who they are is looked up when somebody asks (unmatchedSubjects). Any event shows that it is there.
  if (own.length > 0 && accounts.size === 0) tally.holds("consistency.patientsWithoutAccount", "", sign);
  if (accounts.size > 0 && own.length === 0) tally.holds("consistency.accountsWithoutPatient", "", sign);
}

/**
 * Adds what `fresh` events change, given everything that was known before about the patients they touch (`known`, which may
 * hold the fresh ones too).
 */
export function tallyChange(fresh: LoggedEvent[], known: LoggedEvent[], tally: Facts): void {
  const freshIds = new Set(fresh.map((event) => event.id));
  const before = groupBySubject(known.filter((event) => !freshIds.has(event.id)));
  for (const [patient, events] of groupBySubject(fresh)) {
    const older = before.get(patient) ?? [];
    tallySubject(patient, older, tally, -1n);
    tallySubject(patient, [...older, ...events], tally, 1n);
  }
  for (const event of fresh) if (event.stream === "auth.v1") tallySignIn(event, tally);
}

/** The patients whose numbers an event changes. */
export function subjectsOf(event: Pick<LoggedEvent, "subject" | "related">): string[] {
  return [...new Set([event.subject, event.related].filter((id) => id !== null))];
}

function groupBySubject(events: LoggedEvent[]): Map<string, LoggedEvent[]> {
  const groups = new Map<string, LoggedEvent[]>();
  for (const event of events) {
    for (const patient of subjectsOf(event)) {
      const group = groups.get(patient);
      if (group) group.push(event);
      else groups.set(patient, [event]);
    }
  }
  return groups;
}
