/** A record says which ones were merged into it, and those say into which: now, in versions, lists and exports. */
import { expect, test } from "vitest";
import { patientsOfThisFile, someBody } from "./testing.ts";

const { admin } = await patientsOfThisFile();

const create = async (): Promise<{ id: string }> => (await admin.send("POST", "/patients?duplicates=allow", someBody())).body;
const get = async (path: string) => (await admin.send("GET", path)).body;
const versionOf = async (id: string): Promise<number> => (await get(`/patients/${id}`)).version;

async function merge(survivor: string, duplicate: string) {
  const body = { duplicateId: duplicate, duplicateVersion: await versionOf(duplicate) };
  const { status, body: merged } = await admin.send("POST", `/patients/${survivor}:merge`, body, { "if-match": "*" });
  expect(status).toBe(200);
  return merged.patient;
}

async function search(where: object[]): Promise<{ id: string; replaces?: string[] }[]> {
  return (await admin.send("POST", "/patients:search", { where, states: ["living", "merged"] })).body.items;
}
const linkedTo = async (id: string) => (await search([{ field: "linkedTo", anyOf: [id] }])).map((found) => found.id).sort();

async function exported(): Promise<Map<string, { replaces?: string[]; mergedInto?: string }>> {
  const { exportId } = (await admin.send("POST", "/patients/exports", {})).body;
  const { text } = await admin.send("GET", `/patients/exports/${exportId}/patients`);
  return new Map(text.trim().split("\n").map((line) => JSON.parse(line)).map((line) => [line.id, line])); // biome-ignore format: one chain
}

test("what was merged, also by way of others, is told both ways until it is undone", async () => {
  const [a, b, c] = [(await create()).id, (await create()).id, (await create()).id] as const;
  expect((await merge(b, a)).replaces).toEqual([a]);
  expect((await merge(c, b)).replaces).toEqual([a, b]);
  expect((await get(`/patients/${c}`)).replaces).toEqual([a, b]);
  expect((await search([{ field: "id", anyOf: [a, b, c] }])).map(({ id, replaces }) => [id, replaces])).toEqual(
    expect.arrayContaining([[a, undefined], [b, undefined], [c, [a, b]]]), // biome-ignore format: a table
  );
  expect(await linkedTo(c)).toEqual([a, b]);
  expect(await linkedTo(a)).toEqual([c]);
  expect(await linkedTo(b)).toEqual([c]);
  const linked = (missing: boolean) => search([{ field: "linkedTo", missing }, { field: "id", anyOf: [a, c] }]); // biome-ignore format: one list
  expect([(await linked(false)).length, (await linked(true)).length]).toEqual([2, 0]);
  const ofVersions = async (id: string, ...versions: number[]) =>
    Promise.all(versions.map(async (version) => (await get(`/patients/${id}/versions/${version}`)).replaces));
  expect(await ofVersions(c, 1, 2)).toEqual([undefined, [a, b]]);
  expect(await ofVersions(b, 1)).toEqual([undefined]);
  const lines = await exported();
  expect([a, b, c].map((id) => [lines.get(id)?.mergedInto, lines.get(id)?.replaces])).toEqual([
    ...[[b, undefined], [c, [a]], [undefined, [b]]], // biome-ignore format: a table
  ]);
  const { body: undone } = await admin.send("POST", `/patients/${c}:unmerge`, { duplicateId: b });
  expect([undone.patient.replaces, undone.restored.replaces]).toEqual([undefined, [a]]);
  expect(await ofVersions(c, 1, 2, 3)).toEqual([undefined, [a, b], undefined]);
  expect((await get(`/patients/${b}`)).replaces).toEqual([a]);
  expect((await admin.send("PATCH", `/patients/${b}`, { sex: "female" })).body.replaces).toEqual([a]);
  expect(await ofVersions(b, 2, 3)).toEqual([[a], [a]]);
});
