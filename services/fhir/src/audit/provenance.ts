/** Who made which version of a patient, as Provenance. Its id is that of the patient and the version. */
import { AppError } from "@pm/kit/errors";
import type * as fhir from "fhir/r4.js";
import type { Ask, Call } from "../protocol/calls.ts";
import { referenceIn, requireOne, textsOf } from "../protocol/criteria.ts";
import { nothing, readable, unlessAbsent } from "../protocol/readable.ts";
import { toActor } from "./mapping.ts";

/** A version as patient-service lists it in a history. */
type Version = { version: number; action: string; at: string; by: string };
type History = { items: Version[]; nextCursor?: string };

/** http://terminology.hl7.org/CodeSystem/v3-DataOperation */
const operations: Record<string, string> = {
  registered: "CREATE",
  imported: "CREATE",
  deleted: "DELETE",
  merged: "UPDATE",
  erased: "DELETE",
};

function toProvenance(patientId: string, { version, action, at, by }: Version): fhir.Provenance {
  const code = operations[action] ?? "UPDATE";
  return {
    resourceType: "Provenance",
    id: `${patientId}-${version}`,
    meta: { lastUpdated: at },
    target: [{ reference: `Patient/${patientId}/_history/${version}` }],
    recorded: at,
    activity: { coding: [{ system: "http://terminology.hl7.org/CodeSystem/v3-DataOperation", code }], text: action },
    agent: [
      {
        type: {
          coding: [{ system: "http://terminology.hl7.org/CodeSystem/provenance-participant-type", code: "author", display: "Author" }],
        },
        who: toActor(by),
      },
    ],
  };
}

function partsOf(id: string): { patientId: string; version: number } | undefined {
  const [, patientId, version] = /^([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-([1-9]\d{0,14})$/i.exec(id) ?? [];
  return patientId === undefined ? undefined : { patientId, version: Number(version) };
}

const pageSize = 200;

export function createProvenance({ asks, base }: { asks: { patient: Ask }; base: string }) {
  async function history(
    call: Call,
    patientId: string,
    page: { limit: number; cursor?: string | undefined; before?: number },
  ): Promise<History> {
    const query = new URLSearchParams({
      limit: String(page.limit),
      ...(page.cursor !== undefined && { cursor: page.cursor }),
      ...(page.before !== undefined && { before: String(page.before) }),
    });
    return (await asks.patient(call, "/patients/{id}/history", `/patients/${patientId}/history`, { query })) as History;
  }

  async function read(call: Call, id: string): Promise<fhir.Provenance> {
    const parts = partsOf(id);
    const page = parts && (await history(call, parts.patientId, { limit: 1, before: parts.version + 1 }));
    const [version] = page?.items ?? [];
    if (!parts || version?.version !== parts.version) throw new AppError("not_found", "There is no such version.");
    return toProvenance(parts.patientId, version);
  }

  return {
    /** For `_revinclude=Provenance:target`: those of all versions that the caller may see, 200 per patient at most. */
    async ofPatients(call: Call, patientIds: string[]): Promise<fhir.Provenance[]> {
      const found = await Promise.all(
        patientIds.map(async (id) => (await history(call, id, { limit: pageSize })).items.map((version) => toProvenance(id, version))),
      );
      return found.flat();
    },

    resource: readable<"Provenance">({
      type: "Provenance",
      example: exampleProvenance,
      documentation: "Who made which version of a patient. A search needs _id, target or patient.",
      definitions: {
        _id: { type: "token" },
        target: { type: "reference", documentation: "The patient." },
        patient: { type: "reference", documentation: "The same as target." },
      },
      includes: { target: ({ target }) => target.map(patientOf) },
      read,

      async search(call, search) {
        requireOne(search, "_id", "target", "patient");
        const [ids, patientId] = [textsOf(search, "_id"), referenceIn(search, base, "Patient", "target", "patient")];
        if (patientId === "" || ids?.length === 0) return nothing;
        if (ids) {
          const wanted = ids.filter((id) => patientId === undefined || partsOf(id)?.patientId === patientId);
          const found = await Promise.all(wanted.map((id) => read(call, id).catch(unlessAbsent)));
          return { matches: found.filter((one) => one !== undefined) };
        }
        const page = await history(call, patientId ?? "", { limit: search.count, cursor: search.cursor }).catch(unlessAbsent);
        return { matches: (page?.items ?? []).map((version) => toProvenance(patientId ?? "", version)), next: page?.nextCursor };
      },
    }),
  };
}

/** The patient as they are, of whom the target is a version. */
const patientOf = ({ reference }: fhir.Reference): string | undefined => reference?.replace(/\/_history\/.*$/, "");

const exampleProvenance = toProvenance("0193b3f0-8c1a-7b6e-9d2f-3a4b5c6d7e8f", {
  ...{ version: 2, action: "updated", at: "2026-01-29T10:00:00.000Z", by: "7f9c2ba4-e88f-4b3a-a6c5-3f1d2b4c5a69" },
});
