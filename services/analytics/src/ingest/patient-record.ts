/**
 * What the events of a patient record count for: a pure function of the set of events. Neither the order in which they
 * come nor repetition matters.
 */
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { dayMs, type Instant, isDate, type LocalDate, toDate, utcMidnight } from "@pm/kit/calendar";
import type { Demographics } from "@pm/proto/patient/v1/events";
import { ageOn } from "../calendar.ts";
import { ageBands, dimensions, measures, sexes } from "../measures.ts";
import type { Facts } from "../rollups/aggregate.ts";
import type { LoggedPatientEvent } from "./event.ts";

const { registered, deleted, restored, merged, unmerged } = measures.patients;

/**
 * Adds the facts of a record. `own` are the events of the record, `mergesOfOthers` those of other records that took it
 * in or gave it back. A record counts for nothing until its registration is known.
 */
export function addRecordFacts(
  patientId: string,
  own: LoggedPatientEvent[],
  mergesOfOthers: LoggedPatientEvent[],
  facts: Facts,
  sign: bigint,
): void {
  const versions = [...own].sort((a, b) => Number(a.version - b.version) || byTime(a, b));
  const profile = profileFrom(versions);
  if (!profile) return;
  addRegistration(profile, facts, sign);
  if (isActiveAfter(patientId, versions, mergesOfOthers, (measure, at) => facts.atInstant(measure, "", at, sign)))
    addActive(profile, facts, sign);
}

/** What is known about a patient now. */
type Profile = {
  registeredAt: Instant;
  registeredDate: string;
  birth: string;
  sex: (typeof sexes)[number];
  city: string;
  state: string;
};

function profileFrom(versions: LoggedPatientEvent[]): Profile | undefined {
  const registration = versions.find(({ change }) => change.case === "registered")?.change;
  if (registration?.case !== "registered") return undefined;
  let demographics: Demographics | undefined;
  let { registeredDate } = registration.value;
  for (const { change } of versions) {
    if (change.case === undefined || change.case === "deleted" || change.case === "erased") continue;
    if (change.case !== "registered" && change.value.registeredDate !== "") registeredDate = change.value.registeredDate;
    if (change.value.demographics) demographics = change.value.demographics;
  }
  // Also of events not stripped yet, so that an erasure moves the patient to "unknown", and nothing moves later.
  if (versions.some(({ change }) => change.case === "erased")) demographics = undefined;
  const registeredAt = registration.value.registeredAt ? timestampMs(registration.value.registeredAt) : (versions[0]?.at ?? 0);
  const place = (name: string | undefined) => (name ?? "").normalize("NFC").replace(/\s+/g, " ").trim();
  return {
    registeredAt,
    registeredDate,
    birth: birthOf(demographics, toDate(registeredAt)),
    sex: sexes.find((known) => known === demographics?.sex) ?? "",
    city: place(demographics?.city),
    state: place(demographics?.state),
  };
}

/**
 * The day that ages are counted from. Of a date that is only known by its year or month that is the middle, but no
 * later than the registration.
 */
function birthOf(demographics: Demographics | undefined, registeredOn: LocalDate): LocalDate {
  const { dateOfBirth = "", partialDateOfBirth: partial = "" } = demographics ?? {};
  const middle = { 4: `${partial}-07-02`, 7: `${partial}-16` }[partial.length];
  if (dateOfBirth !== "" || middle === undefined) return dateOfBirth;
  return middle > registeredOn && registeredOn.startsWith(partial) ? registeredOn : middle;
}

function addRegistration({ registeredAt, registeredDate, birth, sex, city, state }: Profile, facts: Facts, sign: bigint): void {
  // A clinic may enter a registration of long ago, which is known by its day only. Otherwise the instant counts: it
  // decides on which local day it was.
  const hasInstant = !isDate(registeredDate) || Math.abs(utcMidnight(registeredDate) + dayMs / 2 - registeredAt) <= 1.5 * dayMs;
  const day = hasInstant ? new Date(registeredAt).toISOString().slice(0, 10) : registeredDate;
  const add = (measure: string, value: string) => {
    if (hasInstant) facts.atInstant(measure, value, registeredAt, sign);
    else facts.onDate(measure, value, utcMidnight(day), sign);
  };
  const values = { sex, ageBand: ageBandOf(birth, day), city, state };
  add(registered, "");
  for (const dimension of dimensions) add(measures.patients.registeredBy[dimension], values[dimension]);
  if (!hasInstant) return;
  // A local day does not begin and end with a UTC day. What lies between is broken down from profiles.
  const profile = JSON.stringify(dimensions.map((dimension) => values[dimension]));
  facts.atInstant(measures.patients.registeredProfile, profile, registeredAt, sign);
}

function addActive({ birth, sex, city, state }: Profile, facts: Facts, sign: bigint): void {
  const { activeByBirthDate, activeWithoutBirthDate, activeBy } = measures.patients;
  // Ages change without an event. So dates of birth are kept, and a report computes the age bands.
  if (isDate(birth)) facts.onDate(activeByBirthDate, sex, utcMidnight(birth), sign);
  else facts.holds(activeWithoutBirthDate, sex, sign);
  facts.holds(activeBy.sex, sex, sign);
  facts.holds(activeBy.city, city, sign);
  facts.holds(activeBy.state, state, sign);
}

function ageBandOf(birth: LocalDate, date: LocalDate): (typeof ageBands)[number] {
  const age = ageOn(birth, date);
  if (!isDate(birth) || age < 0) return "";
  return ageBands[Math.min(9, Math.floor(age / 10))] ?? "";
}

/** Follows a record through deletions and merges. It is active while it is neither deleted nor merged into another. */
function isActiveAfter(
  patientId: string,
  versions: LoggedPatientEvent[],
  mergesOfOthers: LoggedPatientEvent[],
  note: (measure: string, at: Instant) => void,
): boolean {
  // A record's versions are its order, even if clocks disagree. Merges of other records are ordered by time.
  let latest = 0;
  const steps = versions.map((event) => {
    latest = Math.max(latest, event.at);
    return { event, at: latest };
  });
  const others = [...mergesOfOthers].sort(byTime).map((event) => ({ event, at: event.at }));
  const all = [...steps, ...others].sort((a, b) => a.at - b.at);
  let isDeleted = false;
  let isMerged = false;
  for (const { event, at } of all) {
    const wasActive = !isDeleted && !isMerged;
    const isOwn = event.patientId === patientId;
    if (isOwn) {
      if (event.change.case === "deleted" || event.change.case === "erased") isDeleted = true;
      if (event.change.case === "restored") isDeleted = false;
    } else {
      if (event.change.case === "merged") isMerged = true;
      if (event.change.case === "unmerged") isMerged = false;
    }
    const isActive = !isDeleted && !isMerged;
    if (wasActive && !isActive) note(isMerged ? merged : deleted, at);
    if (!wasActive && isActive) note(isOwn ? restored : unmerged, at);
  }
  return !isDeleted && !isMerged;
}

/** By time; events of the same millisecond in an order that is arbitrary but always the same. */
function byTime(a: LoggedPatientEvent, b: LoggedPatientEvent): number {
  return a.at - b.at || Number(a.version - b.version) || (a.id < b.id ? -1 : 1);
}
