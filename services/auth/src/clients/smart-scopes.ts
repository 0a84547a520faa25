/** FHIR clients' scopes (https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html), in terms of ours. */

const patients = ["patient:read", "patient:all"];
const money = ["billing:read", "patient:all"];

/** What reading each type needs, and no more. `patient:all` says which patients; it comes with what tells of them. */
const reading = new Map([
  ...["Patient", "RelatedPerson", "Provenance"].map((type) => [type, patients] as const),
  ...["Account", "ChargeItem", "Invoice", "PaymentReconciliation"].map((type) => [type, money] as const),
  ["AuditEvent", ["audit:read"]],
  ["Group", ["patient:read"]],
  // Any scope allows to read the names of users.
  ["Practitioner", []],
]);
/** The FHIR service writes nothing else. */
const writing = new Map([["Patient", ["patient:write", "patient:all"]]]);

/**
 * What `system/Patient.read`, `system/Patient.rs` or `system/*.*` means here; nothing for types that the FHIR service
 * does not have. Undefined if the scope is none of SMART.
 */
export function ownScopes(scope: string): string[] | undefined {
  const [, type, right = ""] = /^system\/(\*|[A-Z][A-Za-z]*)\.(read|write|\*|(?=.)c?r?u?d?s?)$/.exec(scope) ?? [];
  if (type === undefined) return undefined;
  const reads = right === "read" || right === "*" || (right !== "write" && /[rs]/.test(right));
  const writes = right === "write" || right === "*" || (right !== "read" && /[cud]/.test(right));
  const of = (needed: Map<string, string[]>) => (type === "*" ? [...needed.values()].flat() : (needed.get(type) ?? []));
  return [...new Set([...(reads ? of(reading) : []), ...(writes ? of(writing) : [])])];
}
