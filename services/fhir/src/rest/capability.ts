/** How a resource describes itself for the CapabilityStatement. */
import type { CapabilityStatementRestResource } from "fhir/r4.js";

export type Capability = CapabilityStatementRestResource;

type Interaction = NonNullable<Capability["interaction"]>[number]["code"];

/** A resource with what is the same for all of them: versions, and references that are not checked. */
export const capability = (type: Capability["type"], interactions: Interaction[], more: Partial<Capability> = {}): Capability => ({
  type,
  interaction: interactions.map((code) => ({ code })),
  versioning: "versioned",
  ...more,
});
