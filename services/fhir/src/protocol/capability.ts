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

/** An operation, such as `$export`: the resource that it belongs to, or none if it is one of the whole server. */
export type Operation = { resource?: Capability["type"]; name: string; definition: string };

const describe = ({ name, definition }: Operation) => ({ name, definition });

export const systemOperations = (operations: Operation[]) => operations.filter(({ resource }) => resource === undefined).map(describe);

/** Resources with their operations. One that has nothing else, such as Group, is added. */
export function withOperations(capabilities: Capability[], operations: Operation[]): Capability[] {
  const types = [...new Set([...capabilities.map(({ type }) => type), ...operations.flatMap(({ resource }) => resource ?? [])])];
  return types.map((type) => {
    const own = operations.filter(({ resource }) => resource === type).map(describe);
    return { ...(capabilities.find((one) => one.type === type) ?? { type }), ...(own.length > 0 && { operation: own }) };
  });
}
