/** The mapping of an entry of a trail, ours → FHIR. docs/fhir.md has it as a table. */
import { isUuid } from "@pm/kit/uuid";
import type * as fhir from "fhir/r4.js";
import { ours } from "../protocol/resource.ts";
import { actionCodeOf } from "./actions.ts";

/** The services that keep a trail. */
export const sources = ["patient", "billing", "auth", "analytics"] as const;
export type Source = (typeof sources)[number];

/** As every service sends it (packages/kit/src/auditor/rest.ts). */
export type Entry = {
  id: string;
  at: string;
  actor: string;
  action: string;
  subject: string;
  requestId: string;
  details: Record<string, unknown>;
};

export const wordSystem = `${ours}/CodeSystem/audit-actions`;

/** An id is a number in its trail. */
const idOf = (source: Source, entryId: string) => `${source}-${entryId}`;

export function partsOf(id: string): { source: Source; entryId: string } | undefined {
  const [, name, entryId] = /^([a-z]+)-([1-9]\d{0,17})$/.exec(id) ?? [];
  const source = sources.find((one) => one === name);
  return source && entryId !== undefined ? { source, entryId } : undefined;
}

/** Users are Practitioners here. API clients and services have an identifier only. */
export const toActor = (actor: string): fhir.Reference =>
  isUuid(actor) ? { reference: `Practitioner/${actor}` } : { identifier: { system: `${ours}/actors`, value: actor }, display: actor };

/** Of what type the subject of an action is, where it is always the same. */
function typeOf(action: string): string | undefined {
  if (/^patient\./.test(action)) return "Patient";
  // Lists of billing may be about an account or a patient.
  if (/^(account|charge|payment|invoice|credit_note|statement|transactions)\./.test(action)) return "Account";
  if (/^authz_team_/.test(action)) return "Group";
  return /^(user_|authn_|session_|sensitive_read|authz_change)/.test(action) && !/client/.test(action) ? "Practitioner" : undefined;
}

function toSubject({ action, subject }: Entry): fhir.Reference {
  const type = isUuid(subject) ? typeOf(action) : undefined;
  return type ? { reference: `${type}/${subject}` } : { identifier: { system: `${ours}/audit-subjects`, value: subject } };
}

const textOf = (value: unknown): string => (typeof value === "string" ? value : JSON.stringify(value));

/** What else the entry says. FHIR has no empty texts. The block that seals it is left out: it comes a second later. */
function toDetails({ requestId, details }: Entry): fhir.AuditEventEntityDetail[] {
  return Object.entries({ requestId, ...details })
    .map(([type, value]) => ({ type, valueString: textOf(value) }))
    .filter(({ valueString }) => valueString.trim() !== "");
}

const isFailure = (action: string) => action === "access.refused" || action === "authn_login_fail";

export function toAuditEvent(source: Source, entry: Entry): fhir.AuditEvent {
  const { id, at, actor, action } = entry;
  return {
    resourceType: "AuditEvent",
    id: idOf(source, id),
    meta: { lastUpdated: at },
    type: { system: "http://terminology.hl7.org/CodeSystem/audit-event-type", code: "rest", display: "RESTful Operation" },
    subtype: [{ system: wordSystem, code: action }],
    action: actionCodeOf(action),
    recorded: at,
    // 4: the user could not do it; nothing is broken.
    outcome: isFailure(action) ? "4" : "0",
    agent: [{ who: toActor(actor), altId: actor, requestor: true }],
    source: {
      site: source,
      observer: { identifier: { system: `${ours}/actors`, value: `service:${source}` }, display: source },
      type: [{ system: "http://terminology.hl7.org/CodeSystem/security-source-type", code: "4", display: "Application Server" }],
    },
    entity: [{ what: toSubject(entry), detail: toDetails(entry) }],
  };
}

export const exampleAuditEvent = toAuditEvent("patient", {
  ...{ id: "4711", at: "2026-11-28T09:30:00.123456Z", actor: "0193b3f0-8c1a-7b6e-9d2f-3a4b5c6d7e8f", action: "patient.read" },
  ...{ subject: "0193b3f0-91d4-7c3e-8a5b-1f2e3d4c5b6a", requestId: "0b7e4c1d-5a2f-4c8e-9f3b-6d1a2c3b4e5f", details: { version: 3 } },
});
