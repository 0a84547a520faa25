/** What a search for patients asks of patient-service. */
import { expect, test } from "vitest";
import { readSearch } from "../protocol/search-parameters.ts";
import { createPatients } from "./client.ts";
import { patientSearch } from "./criteria.ts";
import { createPatientSearch } from "./search.ts";

const base = "https://clinic.example/fhir/R4";
const answer = { items: [], nextCursor: "more", totalEstimate: 7 };

/** The body that is sent for a query, and the total that is answered. */
async function ask(query: string): Promise<{ sent: Record<string, unknown>; total: number | undefined }> {
  let sent: unknown;
  const patients = createPatients(async (_call, _route, _path, { body } = {}) => {
    sent = body;
    return answer;
  });
  const search = createPatientSearch(patients, base, { provenanceOf: async () => [], contactsOf: () => [] });
  const { total } = await search(
    { authorization: "", requestId: "" },
    readSearch(new URLSearchParams(query), patientSearch, "strict"),
    false,
  );
  return { sent: sent as Record<string, unknown>, total };
}

test("every patient has a gender, so nobody is found without one", async () => {
  expect((await ask("gender:missing=true")).sent.where).toEqual([{ field: "id", anyOf: ["nobody"] }]);
  expect((await ask("gender:missing=false")).sent.where).toEqual([]);
  expect((await ask("gender=unknown")).sent.where).toEqual([{ field: "sex", anyOf: ["unknown"] }]);
});

test("patient-service counts only for a caller who asks for a total", async () => {
  const counts = async (query: string) => (await ask(query)).sent.count;
  expect([await counts(""), await counts("_total=none"), await counts("family=King")]).toEqual(["none", "none", "none"]);
  expect([await counts("_total=accurate"), await counts("_summary=count"), await counts("_count=0")]).toEqual(["exact", "exact", "exact"]);
  expect(await ask("_total=estimate")).toMatchObject({ sent: expect.not.objectContaining({ count: expect.anything() }), total: 7 });
});

test("the time of the last change is a span, by the bounds of each value", async () => {
  const where = async (query: string) => (await ask(query)).sent.where;
  const at = (anyOf: string) => ({ field: "updatedAt", anyOf: [anyOf] });
  const [day, next] = ["2026-05-12T00:00:00.000Z", "2026-05-13T00:00:00.000Z"];
  expect(await where("_lastUpdated=2026-05-12")).toEqual([at(`ge${day}`), at(`lt${next}`)]);
  for (const [asked, meant] of Object.entries({
    gt: `ge${next}`,
    sa: `ge${next}`,
    ge: `ge${day}`,
    lt: `lt${day}`,
    eb: `lt${day}`,
    le: `lt${next}`,
  }))
    expect([asked, await where(`_lastUpdated=${asked}2026-05-12`)]).toEqual([asked, [at(meant)]]);
  for (const wrong of ["ne2026-05-12", "ap2026", "2026,2025"])
    await expect(where(`_lastUpdated=${wrong}`)).rejects.toMatchObject({ options: { errors: [{ path: "_lastUpdated" }] } });
});
