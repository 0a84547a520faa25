/** Contacts, audit trails, versions, users and teams as FHIR, through the gateway. */
import { randomUUID } from "node:crypto";
import type { AuditEvent, Bundle, FhirResource, OperationOutcome } from "fhir/r4.js";
import { afterAll, beforeAll, expect, test } from "vitest";
import { wordsOf } from "../../services/fhir/src/audit/actions.ts";
import { auditTable } from "./audit-table.ts";
import { person } from "./client.ts";
import { auditor, done, get, ids, newUser, platform, post, send, startScene, stopScene, user } from "./scene.ts";

beforeAll(startScene);
afterAll(stopScene);

const fhir = <Resource = Bundle>(path: string, token?: string): Promise<Resource> =>
  done({ ...get(`/fhir/R4/${path}`), ...(token !== undefined && { token }) });
const matches = <Resource = FhirResource>({ entry = [] }: Bundle) =>
  entry.filter(({ search }) => search?.mode === "match").map(({ resource }) => resource as Resource);

async function refused(path: string, token?: string): Promise<[number, string | undefined]> {
  const { status, text } = await send(platform.gatewayUrl, { ...get(`/fhir/R4/${path}`), ...(token !== undefined && { token }) });
  return [status, (JSON.parse(text) as OperationOutcome).issue[0]?.code];
}

async function all<Resource extends FhirResource>(path: string, token?: string): Promise<Resource[]> {
  const found: Resource[] = [];
  for (let next: string | undefined = path; next !== undefined; ) {
    const page: Bundle = await fhir(next, token);
    found.push(...matches<Resource>(page));
    const link = page.link?.find(({ relation }) => relation === "next")?.url;
    next = link?.slice(link.indexOf("/fhir/R4/") + "/fhir/R4/".length);
  }
  return found;
}

test("the contacts of a patient are RelatedPersons, for whoever may see the patient", async () => {
  const contacts = [{ name: "Ralph King", relationship: "son", phone: "+12175550199" }, { name: "Annabella King" }];
  const { id } = await done(post("/patients", { ...person(), contacts }));
  const page = await fhir(`RelatedPerson?patient=Patient/${id}&_include=RelatedPerson:patient`);
  expect(page.total).toBe(2);
  expect(page.entry?.map(({ resource }) => resource?.resourceType)).toEqual(["RelatedPerson", "RelatedPerson", "Patient"]);
  const [ralph] = matches(page);
  expect(ralph).toMatchObject({ patient: { reference: `Patient/${id}` }, name: [{ text: "Ralph King" }], relationship: [{ text: "son" }] });
  expect(await fhir(`RelatedPerson/${ralph?.id}`)).toEqual(ralph);
  expect(matches(await fhir(`RelatedPerson?_id=${ralph?.id},x`))).toEqual([ralph]);
  const { token } = await newUser();
  expect(await refused(`RelatedPerson/${ralph?.id}`, token)).toEqual([404, "not-found"]);
  expect(await all(`RelatedPerson?patient=${id}`, token)).toEqual([]);
  expect(await refused(`RelatedPerson/${id}-99`)).toEqual([404, "not-found"]);
  expect(await refused("RelatedPerson")).toEqual([400, "invalid"]);
});

test("auditors read all trails as one, page by page, without a gap, in the order of time", async () => {
  const before = new Date();
  for (let n = 0; n < 3; n += 1) {
    await done(get(`/patients/${ids.patient}`));
    await done(post("/billing.v1.BillingService/ListCharges", { accountId: ids.account }));
    await done(get("/auth/users"));
  }
  const { token } = auditor;
  const query = `AuditEvent?date=ge${before.toISOString()}&date=lt${new Date(Date.now() + 1_000).toISOString()}&action=R&subtype=patient.read,charges.listed,sensitive_read`;
  const found = await all<AuditEvent>(`${query}&_count=2`, token);
  expect(found.map(({ subtype }) => subtype?.[0]?.code)).toEqual(
    [...Array(3)].flatMap(() => ["sensitive_read", "charges.listed", "patient.read"]),
  );
  expect(new Set(found.map(({ id }) => id)).size).toBe(9);
  expect(found.map(({ recorded }) => recorded)).toEqual(
    found
      .map(({ recorded }) => recorded)
      .toSorted()
      .toReversed(),
  );
  const [read] = found.filter(({ source }) => source.site === "patient");
  expect(read).toMatchObject({ action: "R", outcome: "0", entity: [{ what: { reference: `Patient/${ids.patient}` } }] });
  expect(await fhir(`AuditEvent/${read?.id}`, token)).toEqual(read);
  expect(matches(await fhir(`AuditEvent?_id=${read?.id},x-1`, token))).toEqual([read]);
});

test("entries are found by patient, agent, service and action", async () => {
  const { token } = auditor;
  await done({ ...get("/patients"), token: user.token });
  const sites = async (query: string) =>
    new Set((await all<AuditEvent>(`AuditEvent?${query}&_count=5`, token)).map(({ source }) => source.site));
  expect(await sites(`patient=Patient/${ids.patient}&subtype=patient.read,account.read`)).toEqual(new Set(["patient", "billing"]));
  expect(await sites("site=billing")).toEqual(new Set(["billing"]));
  const ofUser = await all<AuditEvent>(`AuditEvent?agent=Practitioner/${user.id}&_count=3`, token);
  expect(ofUser.map(({ subtype }) => subtype?.[0]?.code)).toContain("patient.listed");
  expect(new Set(ofUser.map(({ agent }) => agent[0]?.altId))).toEqual(new Set([user.id]));
  expect(await all(`AuditEvent?altid=${user.id}&agent=Practitioner/${auditor.id}`, token)).toEqual([]);
  const created = await all<AuditEvent>("AuditEvent?action=C&site=patient&_count=5", token);
  expect(new Set(created.map(({ subtype }) => subtype?.[0]?.code))).toEqual(new Set(["patient.registered"]));
  expect(await refused("AuditEvent")).toEqual([403, "forbidden"]);
  expect(await refused("AuditEvent?_cursor=x", token)).toEqual([400, "invalid"]);
  expect(await refused("AuditEvent/patient-99999999", token)).toEqual([404, "not-found"]);
});

test("every action that an operation leaves has a code of FHIR", () => {
  const left = Object.values(auditTable).flatMap((row) => ("leaves" in row ? [row.leaves] : []));
  const listed = Object.values(wordsOf).flat();
  expect(left.filter((action) => !listed.includes(action))).toEqual([]);
});

test("the versions of a patient say who made them, users have names and teams members", async () => {
  const { id } = await done({ ...post("/patients", person()), token: user.token });
  await done({ method: "PATCH", path: `/patients/${id}`, body: { maritalStatus: "married" } });
  const versions = await all(`Provenance?target=Patient/${id}&_count=1`);
  expect(versions).toMatchObject([
    { id: `${id}-2`, target: [{ reference: `Patient/${id}/_history/2` }], activity: { coding: [{ code: "UPDATE" }] } },
    { id: `${id}-1`, agent: [{ who: { reference: `Practitioner/${user.id}` } }], activity: { coding: [{ code: "CREATE" }] } },
  ]);
  expect(await fhir(`Provenance/${id}-1`)).toEqual(versions[1]);
  const page = await fhir(`Patient?_id=${id}&_revinclude=Provenance:target`);
  expect(page.entry?.map(({ resource, search }) => [search?.mode, resource?.id])).toEqual([
    ...[["match", id], ["include", `${id}-2`], ["include", `${id}-1`]], // biome-ignore format: a table
  ]);
  expect(await refused(`Provenance/${id}-3`)).toEqual([404, "not-found"]);
  await done({ method: "PATCH", path: "/auth/me", body: { name: "Grace Hopper" }, token: user.token });
  expect(await fhir(`Practitioner/${user.id}`, auditor.token)).toEqual({
    ...{ resourceType: "Practitioner", id: user.id, name: [{ text: "Grace Hopper" }] },
  });
  expect(matches(await fhir(`Practitioner?_id=${user.id},${randomUUID()}`))).toHaveLength(1);
  expect(await refused(`Practitioner/${randomUUID()}`)).toEqual([404, "not-found"]);
  expect(await fhir(`Group/${ids.team}`)).toMatchObject({ resourceType: "Group", type: "practitioner", actual: true, name: "Ward 3" });
  expect((await all("Group")).map((group) => group.id)).toContain(ids.team);
});
