/**
 * Operations that differ from those of HL7. The others are known by their canonical URLs, in the CapabilityStatement.
 */
import { AppError } from "@pm/kit/errors";
import type { OperationDefinition, OperationDefinitionParameter } from "fhir/r4.js";
import { everythingOperation, everythingTypes } from "../everything/everything.ts";
import { textsOf } from "../protocol/criteria.ts";
import { readable } from "../protocol/readable.ts";

const input = (name: string, type: OperationDefinitionParameter["type"], max: string, documentation: string) => ({
  name,
  use: "in" as const,
  min: 0,
  max,
  documentation,
  ...(type && { type }),
});

const everything: OperationDefinition = {
  resourceType: "OperationDefinition",
  id: "patient-everything",
  url: everythingOperation.definition,
  version: "1.0.0",
  name: "PatientEverything",
  title: "All that is known of a patient",
  status: "active",
  kind: "operation",
  date: "2026-11-28",
  publisher: "Patient management",
  description: `HL7's operation for one patient, without the parameters start and end. It gives ${everythingTypes.join(", ")}.`,
  affectsState: false,
  code: "everything",
  base: "http://hl7.org/fhir/OperationDefinition/Patient-everything",
  resource: ["Patient"],
  ...{ system: false, type: false, instance: true },
  parameter: [
    input("_since", "instant", "1", "Only what changed from this instant on, and what does not say when it changed."),
    input("_type", "code", "*", "Only resources of these types."),
    input("_count", "integer", "1", "How many resources a page has, at most 200."),
    { name: "return", use: "out", min: 1, max: "1", type: "Bundle", documentation: "A page of resources, with a link to the next one." },
  ],
};
const definitions = [everything];

export const operationDefinitions = readable<"OperationDefinition">({
  type: "OperationDefinition",
  example: everything,
  documentation: "Operations that differ from those of HL7.",
  definitions: { _id: { type: "token" }, url: { type: "uri" }, name: { type: "string" } },
  includes: {},

  async read(_call, id) {
    const found = definitions.find((one) => one.id === id);
    if (!found) throw new AppError("not_found", "There is no such definition.");
    return found;
  },

  async search(_call, search) {
    const [ids, urls, names] = [textsOf(search, "_id"), textsOf(search, "url"), textsOf(search, "name")];
    const isNamed = (name: string) => names?.some((text) => name.toLowerCase().startsWith(text.toLowerCase())) ?? true;
    const matches = definitions.filter(({ id = "", url = "", name }) => (ids?.includes(id) ?? true) && (urls?.includes(url) ?? true) && isNamed(name)); // biome-ignore format: one rule
    return { matches };
  },
});
