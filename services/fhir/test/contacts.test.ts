/** Contacts of patients, by the ids that they are read by. */
import { expect, test } from "vitest";
import { createContacts } from "../src/contacts/contact.ts";
import { createPatients } from "../src/patients/client.ts";

const [survivor, merged] = ["0193b3f0-8c1a-7b6e-9d2f-3a4b5c6d7e8f", "0193b3f0-8c1a-7b6e-9d2f-000000000000"];
const call = { authorization: "", requestId: "" };
const record = { id: survivor, version: 2, updatedAt: "2026-11-28T09:30:00.000Z", contacts: [{ id: "1", name: "Ralph King" }] };

// Patient-service answers the id of a merged record by the record that survived.
const { read } = createContacts({ patients: createPatients(async () => Response.json(record)), base: "https://clinic.example/fhir/R4" });

test("a contact is found by its own id only, and not by that of a record which was merged", async () => {
  expect(await read(call, `${survivor}-1`)).toMatchObject({ name: [{ text: "Ralph King" }] });
  for (const id of [`${merged}-1`, `${survivor}-2`, survivor, "1"])
    await expect(read(call, id)).rejects.toMatchObject({ code: "not_found" });
});
