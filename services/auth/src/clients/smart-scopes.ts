/** The scopes that FHIR clients ask for (https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html), in our own. */

const areas = {
  patient: ["Patient", "RelatedPerson", "Practitioner", "Group", "Provenance"],
  billing: ["Account", "ChargeItem", "Invoice", "PaymentReconciliation"],
  audit: ["AuditEvent"],
};

/**
 * What `system/Patient.read`, `system/Patient.rs` or `system/*.*` means here; nothing for types that the FHIR service does not
 * have. Undefined if the scope is none of SMART. `patient:all` says which patients, so it comes with every right.
 */
export function ownScopes(scope: string): string[] | undefined {
  const [, type, right = ""] = /^system\/(\*|[A-Z][A-Za-z]*)\.(read|write|\*|(?=.)c?r?u?d?s?)$/.exec(scope) ?? [];
  if (type === undefined) return undefined;
  const reads = right === "read" || right === "*" || (right !== "write" && /[rs]/.test(right));
  const writes = right === "write" || right === "*" || (right !== "read" && /[cud]/.test(right));
  return Object.entries(areas)
    .filter(([, types]) => type === "*" || types.includes(type))
    .flatMap(([area]) => [
      ...(reads ? [`${area}:read`] : []),
      ...(writes ? [`${area}:write`] : []),
      ...(area === "audit" ? [] : ["patient:all"]),
    ]);
}
