/** What this server can do, as a CapabilityStatement (http://hl7.org/fhir/R4/capabilitystatement.html). */
import type { CapabilityStatement } from "fhir/r4.js";
import { type Capability, type Operation, systemOperations, withOperations } from "../protocol/capability.ts";
import { ours } from "../protocol/resource.ts";

/** Changes with what the statement says, not with each start. */
const date = "2026-11-28";

export function capabilityStatement(base: string, resource: Capability[], operations: Operation[] = []): CapabilityStatement {
  return {
    resourceType: "CapabilityStatement",
    url: `${ours}/CapabilityStatement/server`,
    version: "1.0.0",
    name: "PatientManagement",
    title: "Patient management: FHIR R4",
    status: "active",
    date,
    publisher: "Patient management",
    description: "Patients, their contacts, accounts and audit trail of one clinic.",
    kind: "instance",
    implementation: { description: "Patient management", url: base },
    software: { name: "patient-management" },
    fhirVersion: "4.0.1",
    format: ["application/fhir+json", "json"],
    patchFormat: ["application/json-patch+json"],
    implementationGuide: ["http://hl7.org/fhir/us/core/ImplementationGuide/hl7.fhir.us.core|5.0.1"],
    rest: [
      {
        mode: "server",
        documentation: "Without the scope patient:all, a caller finds the patients that they own and those that are shared with them.",
        security: {
          cors: true,
          service: [
            {
              coding: [{ system: "http://terminology.hl7.org/CodeSystem/restful-security-service", code: "SMART-on-FHIR" }],
              text: "OAuth 2.0 client credentials as SMART Backend Services have them, or the access token of a person.",
            },
          ],
        },
        interaction: [{ code: "batch" }, { code: "transaction" }],
        resource: withOperations(resource, operations),
        ...(operations.length > 0 && { operation: systemOperations(operations) }),
      },
    ],
  };
}
