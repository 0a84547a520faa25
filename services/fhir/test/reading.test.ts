/** Resources that are only read, by the ids that they are read by. */
import { expect, test } from "vitest";
import { createProvenance } from "../src/audit/provenance.ts";
import { createContacts } from "../src/contacts/contact.ts";
import { createPatients } from "../src/patients/client.ts";
import { createPractitioners } from "../src/people/people.ts";
import type { Ask } from "../src/protocol/calls.ts";
import { readSearch } from "../src/protocol/search-parameters.ts";

const [survivor, merged] = ["0193b3f0-8c1a-7b6e-9d2f-3a4b5c6d7e8f", "0193b3f0-8c1a-7b6e-9d2f-000000000000"];
const call = { authorization: "", requestId: "" };
const base = "https://clinic.example/fhir/R4";

test("a contact is found by its own id only, and not by that of a record which was merged", async () => {
  const record = { id: survivor, version: 2, updatedAt: "2026-11-28T09:30:00.000Z", contacts: [{ id: "1", name: "Ralph King" }] };
  // Patient-service answers the id of a merged record by the record that survived.
  const { read } = createContacts({ patients: createPatients(async () => record), base });
  expect(await read(call, `${survivor}-1`)).toMatchObject({ name: [{ text: "Ralph King" }] });
  for (const id of [`${merged}-1`, `${survivor}-2`, survivor, "1"])
    await expect(read(call, id)).rejects.toMatchObject({ code: "not_found" });
});

test("who made a version is read by one call, however many versions there are", async () => {
  const asked: string[] = [];
  const patient: Ask = async (_, __, path, { query } = {}) => {
    asked.push(`${path}?${query}`);
    const version = Number(query?.get("before")) - 1;
    const item = { version, action: "updated", at: "2026-11-28T09:30:00.000Z", by: "service:billing" };
    return { items: version > 5_000 ? [{ ...item, version: 5_000 }] : [item], nextCursor: "more" };
  };
  const { read } = createProvenance({ asks: { patient }, base }).resource;
  expect(await read(call, `${survivor}-3`)).toMatchObject({ target: [{ reference: `Patient/${survivor}/_history/3` }] });
  expect(asked).toEqual([`/patients/${survivor}/history?limit=1&before=4`]);
  for (const id of [`${survivor}-5001`, survivor, "3"]) await expect(read(call, id)).rejects.toMatchObject({ code: "not_found" });
});

test("more users than a search takes are refused, and none is dropped", async () => {
  const auth: Ask = async (_, __, ___, { query } = {}) => ({
    items: (query?.get("ids") ?? "").split(",").map((id) => ({ id, name: "Florence" })),
  });
  const { search, definitions } = createPractitioners({ asks: { auth } });
  const idsOf = (count: number) => Array.from({ length: count }, (_, at) => `0193b3f0-8c1a-7b6e-9d2f-${String(at).padStart(12, "0")}`);
  const find = async (count: number) => search(call, readSearch([["_id", idsOf(count).join(",")]], definitions, "lenient"));
  expect((await find(200)).matches).toHaveLength(200);
  await expect(find(201)).rejects.toMatchObject({ code: "invalid_argument", options: { errors: [{ path: "_id" }] } });
});
