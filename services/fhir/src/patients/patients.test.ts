/** Updates on a condition, with an index of identifiers behind them that lets one of several writes through. */
import { AppError } from "@pm/kit/errors";
import type { Patient as Resource } from "fhir/r4.js";
import { expect, test } from "vitest";
import { createPatients } from "./client.ts";
import type { Patient } from "./patient.ts";
import { createPatientRules } from "./patients.ts";

const identifier = { system: "urn:oid:1.2.3", value: "4711" };
const call = { authorization: "", requestId: "" };
const body: Resource = { resourceType: "Patient", identifier: [identifier], name: [{ family: "King" }] };

/** @param findsLate whether the first search misses what another request is creating */
function scene({ stored, findsLate = false }: { stored?: Patient; findsLate?: boolean } = {}) {
  const seen: string[] = [];
  const rules = createPatientRules(
    createPatients(async (_call, route, path, { method = "GET", body: sent } = {}) => {
      seen.push(`${method} ${route}`);
      expect(path).not.toContain(identifier.value);
      const isFirst = seen.length === 1;
      if (route === "/patients:search") return { items: stored && !(findsLate && isFirst) ? [stored] : [] };
      if (method === "POST" && stored) throw new AppError("already_exists", "Another patient has it.", { reason: "IDENTIFIER_TAKEN" });
      return { ...patient, ...(sent as object) };
    }),
  );
  return { seen, update: (resource: Resource, headers = {}) => rules.updateWhere(call, identifier, resource, headers) };
}
const patient: Patient = { id: "1", version: 1, createdAt: "", updatedAt: "2026-11-28T09:30:00.000Z" };

test("an update on a condition creates one, and replaces one who is there", async () => {
  expect(await scene().update(body)).toMatchObject({ isNew: true });
  expect(await scene({ stored: patient }).update(body)).toMatchObject({ isNew: false });
});

test("an update on a condition that loses the race to create replaces the one who was created", async () => {
  const { seen, update } = scene({ stored: patient, findsLate: true });
  expect(await update(body)).toMatchObject({ isNew: false });
  expect(seen).toEqual(["POST /patients:search", "POST /patients", "POST /patients:search", "PUT /patients/{id}"]);
});

test.each([[{}], [{ stored: patient }]])("a body without the identifier of the condition is refused", async (given) => {
  const { seen, update } = scene(given);
  const errors = [{ path: "Patient.identifier" }];
  await expect(update({ ...body, identifier: [{ ...identifier, value: "1" }] })).rejects.toMatchObject({ options: { errors } });
  expect(seen).toEqual([]);
});

test("a version or an id of somebody whom the condition does not find is a condition that fails", async () => {
  const failed = { code: "precondition_failed" };
  await expect(scene().update(body, { "if-match": '"1"' })).rejects.toMatchObject(failed);
  await expect(scene().update({ ...body, id: "1" })).rejects.toMatchObject(failed);
  await expect(scene({ stored: patient }).update({ ...body, id: "2" })).rejects.toMatchObject(failed);
});
