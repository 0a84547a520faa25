/** What the events of a patient count for. A pure function of the set of events: neither order nor repetition of arrival matters. */
import { timestampMs } from "@bufbuild/protobuf/wkt";
import type { Demographics } from "@pm/proto/patient/v1/events";
import { ageOn, dayMs, type Instant, isDate, type LocalDate, utcMidnight } from "../calendar.ts";
import { type Facts, profileMeasure } from "../rollups/aggregate.ts";
import { dimensions } from "../rollups/types.ts";
import type { LoggedEvent } from "./event.ts";

type PatientEvent = Extract<LoggedEvent, { stream: "patient.v1" }>;

/** What changes the number of active patients, and how. */
export const flows = {
  "patients.registered": 1n,
  "patients.deleted": -1n,
  "patients.restored": 1n,
  "patients.merged": -1n,
  "patients.unmerged": 1n,
} as const;
export type Flow = keyof typeof flows;

export const sexes = ["female", "male", "other", "unknown", ""] as const;
export const ageBands = ["0-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "70-79", "80-89", "90+", ""] as const;

export function ageBandOf(birth: LocalDate, date: LocalDate): (typeof ageBands)[number] {
  const age = ageOn(birth, date);
  if (!isDate(birth) || age < 0) return "";
  return ageBands[Math.min(9, Math.floor(age / 10))] ?? "";
}

/**
 * Adds what a patient's events count for. `own` are the events of the record, `merges` those of other records that took this
 * one in or gave it back. A record of which no registration is known yet counts for nothing.
 */
export function tallyPatient(patient: string, own: PatientEvent[], merges: PatientEvent[], tally: Facts, sign: bigint): void {
  const versions = [...own].sort((a, b) => Number(a.version - b.version) || byTime(a, b));
  const registration = versions.find(({ what }) => what.case === "registered")?.what;
  if (registration?.case !== "registered") return;
  const registeredAt = registration.value.registeredAt ? timestampMs(registration.value.registeredAt) : (versions[0]?.at ?? 0);

  let demographics: Demographics | undefined;
  let registeredDate = registration.value.registeredDate;
  for (const { what } of versions) {
    if (what.case === "updated" && what.value.registeredDate !== "") registeredDate = what.value.registeredDate;
    if (what.case !== undefined && what.case !== "deleted" && what.value.demographics) demographics = what.value.demographics;
  }
  const place = (name: string | undefined) => (name ?? "").normalize("NFC").replace(/\s+/g, " ").trim();
  const birth = demographics?.dateOfBirth ?? "";
  const sex = sexes.find((known) => known === demographics?.sex) ?? "";
  const [city, state] = [place(demographics?.city), place(demographics?.state)];

  // A clinic may enter a registration of long ago: that is known by its day alone. Else the moment says on which local day it was.
  const moment = !isDate(registeredDate) || Math.abs(utcMidnight(registeredDate) + dayMs / 2 - registeredAt) <= 1.5 * dayMs;
  const day = moment ? new Date(registeredAt).toISOString().slice(0, 10) : registeredDate;
  const profile = { sex, ageBand: ageBandOf(birth, day), city, state };
  const register = (measure: string, value: string) => {
    if (moment) tally.atInstant(measure, value, registeredAt, sign);
    else tally.onDate(measure, value, utcMidnight(day), sign);
  };
  register("patients.registered", "");
  for (const dimension of dimensions) register(`patients.registered.${dimension}`, profile[dimension]);
  // The edges of a local day are not those of a UTC day: what lies between is broken down from whole profiles.
  if (moment) tally.atInstant(profileMeasure, JSON.stringify(dimensions.map((dimension) => profile[dimension])), registeredAt, sign);

  if (isActiveAfter(patient, versions, merges, (flow, at) => tally.atInstant(flow, "", at, sign))) {
    // Ages change by themselves, so birth dates are kept, and the bands are found when somebody asks.
    if (isDate(birth)) tally.onDate("patients.active.born", sex, utcMidnight(birth), sign);
    else tally.holds("patients.active.bornUnknown", sex, sign);
    tally.holds("patients.active.sex", sex, sign);
    tally.holds("patients.active.city", city, sign);
    tally.holds("patients.active.state", state, sign);
  }
}

/** Follows a record through deletions and merges. It counts while it is neither deleted nor merged into another one. */
function isActiveAfter(
  patient: string,
  versions: PatientEvent[],
  merges: PatientEvent[],
  note: (flow: Exclude<Flow, "patients.registered">, at: Instant) => void,
): boolean {
  // The versions of a record are its order, even where clocks disagree; other records' merges come in by time.
  let latest = 0;
  const steps = versions.map((event) => {
    latest = Math.max(latest, event.at);
    return { event, at: latest };
  });
  const others = [...merges].sort(byTime).map((event) => ({ event, at: event.at }));
  const all = [...steps, ...others].sort((a, b) => a.at - b.at);
  let deleted = false;
  let merged = false;
  for (const { event, at } of all) {
    const wasActive = !deleted && !merged;
    const { what } = event;
    if (event.subject === patient) {
      if (what.case === "deleted") deleted = true;
      if (what.case === "restored") deleted = false;
    } else {
      if (what.case === "merged") merged = true;
      if (what.case === "unmerged") merged = false;
    }
    const isActive = !deleted && !merged;
    if (wasActive && !isActive) note(merged ? "patients.merged" : "patients.deleted", at);
    if (!wasActive && isActive) note(event.subject === patient ? "patients.restored" : "patients.unmerged", at);
  }
  return !deleted && !merged;
}

/** By time; what happened at the same millisecond in an order that is arbitrary but always the same. */
function byTime(a: PatientEvent, b: PatientEvent): number {
  return a.at - b.at || Number(a.version - b.version) || (a.id < b.id ? -1 : 1);
}
