/**
 * Judges that nobody here wrote, at the FHIR API of the whole platform: HAPI FHIR (its validator and its client),
 * Medplum (searches), smart-fetch (bulk) and fhir-kit-client. All talk through a recorder, and at the end HAPI
 * validates every answer that any of them got.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { query } from "@pm/stack/native/postgres";
import { type Platform, startPlatform } from "@pm/stack/platform";
import type { Bundle, Patient } from "fhir/r4.js";
import { Client as FhirKitClient } from "fhir-kit-client";
import { exportJWK } from "jose";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { type Client, clientOf, logIn } from "../e2e/client.ts";
import { newKeys, register, tokenOf } from "../oauth/clients.ts";
import { type Hapi, installHapi, startHapi } from "./hapi.ts";
import { searchInMemory } from "./medplum.ts";
import { makeReadables } from "./readables.ts";
import { type Recorder, resourcesIn, startRecorder } from "./recorder.ts";
import { searches, sorted } from "./searches.ts";
import { fetchInBulk, installSmartFetch } from "./smart-fetch.ts";
import { lostOf, syntheaId, syntheticPatients } from "./synthea.ts";

const say = (line: string) => void process.stdout.write(`${line}\n`);
const dataDir = mkdtempSync(join(tmpdir(), "pm-fhir-"));
const patients = syntheticPatients();
const json = { "content-type": "application/fhir+json" };
/** Why a judge cannot be had here, if it cannot. */
const missing = (install: Promise<unknown>) =>
  install.then(
    () => ({}),
    ({ message }: Error) => ({ skipped: message }),
  );
const withoutHapi = await missing(installHapi(say));
const withoutSmartFetch = await missing(installSmartFetch(say));

// Synthea gives nobody an e-mail address.
const env = { all: { LOG_LEVEL: "warn" }, patient: { EMAIL_REQUIRED: "false" } };
let platform: Platform;
let hapi: Hapi;
let recorder: Recorder;
let base: string;
let admin: Client;

/** A token is valid for five minutes, and some of this takes longer. */
async function signInAgain(): Promise<void> {
  admin = clientOf(base, (await logIn(platform)).token);
}

/** All pages of a search. */
async function search(path: string): Promise<Patient[]> {
  const found: Patient[] = [];
  let next: string | undefined = path;
  while (next !== undefined) {
    const { status, body, text } = await admin.get(next);
    if (status !== 200) throw new Error(`GET ${next} answered ${status}: ${text}`);
    const { entry = [], link = [] } = body as Bundle<Patient>;
    found.push(...entry.flatMap(({ resource, search }) => (resource && search?.mode === "match" ? [resource] : [])));
    next = link.find(({ relation }) => relation === "next")?.url.slice(base.length);
  }
  return found;
}

const living = async (): Promise<number> => {
  const counts = await query(platform.databases.patient.migrationDatabaseUrl, (client) =>
    client.query<{ count: number }>("SELECT count(*)::int AS count FROM patients WHERE deleted_at IS NULL"),
  );
  return counts.rows[0]?.count ?? 0;
};

/** Phone numbers are stored in their international form. */
const internationally = ({ telecom = [] }: Patient) =>
  telecom.map((point) => (point.system === "phone" ? { ...point, value: `+1${point.value?.replaceAll("-", "")}` } : point));

// biome-ignore lint/complexity/noExcessiveLinesPerFunction: a describe block
describe.skipIf("skipped" in withoutHapi)("the FHIR service", { meta: withoutHapi }, () => {
  beforeAll(async () => {
    [platform, hapi] = await Promise.all([startPlatform({ dataDir, durable: false, log: say, env }), startHapi(say)]);
    recorder = await startRecorder(platform.gatewayUrl);
    base = `${recorder.url}/fhir/R4`;
    admin = clientOf(base, (await logIn(platform)).token);
  });
  afterAll(async () => {
    await recorder?.stop();
    await Promise.all([platform?.stop(), hapi?.stop()]);
    rmSync(dataDir, { recursive: true, force: true });
  });

  test("the validator refuses what is wrong, and takes what is right", async () => {
    const [right] = patients;
    expect(await hapi.validate(JSON.stringify(right))).toEqual([]);
    const wrong = [{ gender: "femal" }, { birthDate: "1985-13-01" }, { name: undefined }, { unheard: 1 }, { identifier: [{ value: "1" }] }];
    for (const change of wrong) {
      const patient = { ...right, ...change };
      expect(await hapi.validate(JSON.stringify(patient)), JSON.stringify(change)).not.toEqual([]);
      const bundle = {
        resourceType: "Bundle",
        type: "collection",
        entry: [{ fullUrl: `http://localhost/Patient/${right?.id}`, resource: patient }],
      };
      expect(await hapi.validate(JSON.stringify(bundle)), JSON.stringify(change)).not.toEqual([]);
    }
  });

  test("Synthea's patients are created, and read back with all that they said", async () => {
    const lost: string[] = [];
    for (const patient of patients) {
      // The server gives the id and the version, and keeps no narrative.
      const { id: _id, meta: _meta, text: _text, ...resource } = patient;
      const created = await admin.send("POST", "/Patient", resource, json);
      expect(created.status, created.text).toBe(201);
      const read = await admin.get(`/Patient/${(created.body as Patient).id}`);
      lost.push(...lostOf({ ...resource, telecom: internationally(resource) }, read.body));
    }
    expect([...new Set(lost)]).toEqual([]);
    expect(await living()).toBe(patients.length);
  });

  describe("searches", () => {
    let inMemory: (query: string) => Promise<Patient[]>;
    beforeAll(async () => {
      inMemory = await searchInMemory(patients);
    });

    test.each(searches)("Medplum finds the same patients by %s", async (search_) => {
      const found = (await search(`/Patient?${search_}&_count=100`)).map(syntheaId).sort();
      expect(found).toEqual((await inMemory(search_)).map(syntheaId).sort());
    });

    test.each(sorted)("Medplum finds the same patients in the same order by %s", async (search_) => {
      expect((await search(`/Patient?${search_}&_count=7`)).map(syntheaId)).toEqual((await inMemory(search_)).map(syntheaId));
    });
  });

  test("everything else that can be read is found, with data in it, and the validator knows its types", async () => {
    for (const { type, query, token } of await makeReadables(platform)) {
      const client = clientOf(base, token);
      const { body } = await client.get(`/${type}?${query}`);
      const [first] = (body as Bundle).entry ?? [];
      const read = await client.get(`/${type}/${first?.resource?.id}`);
      expect(read.body, `${type}?${query} found ${JSON.stringify(body)}`).toMatchObject({ resourceType: type });
      expect(await hapi.validate(JSON.stringify({ ...(read.body as object), unheard: 1 })), type).not.toEqual([]);
    }
  });

  test("a patient without a sex and without a part of a name is a patient of US Core", async () => {
    const [address] = patients[0]?.address ?? [];
    const nameless = { resourceType: "Patient", name: [{ text: "Ada" }], birthDate: "1985-12-10", address: [address] };
    const created = await admin.send("POST", "/Patient", nameless, json);
    expect(created.status, created.text).toBe(201);
    const read = await admin.get(`/Patient/${(created.body as Patient).id}`);
    expect(read.body).toMatchObject({ gender: "unknown" });
    expect(await hapi.validate(read.text)).toEqual([]);
    const silent = { ...(read.body as Patient), gender: undefined, extension: undefined };
    expect(JSON.stringify(await hapi.validate(JSON.stringify(silent)))).toMatch(/Patient\.gender.*us-core-6|us-core-6.*Patient\.gender/);
  });

  test("HAPI's client does what programs do, after its own check of the server", async () => {
    await signInAgain();
    const steps = await hapi.useServer(base, admin.token);
    say(`HAPI's client did: ${steps.map(({ step }) => step).join(", ")}`);
    expect(steps.length).toBeGreaterThanOrEqual(13);
    expect(steps.filter(({ problem }) => problem !== "")).toEqual([]);
  });

  test("fhir-kit-client finds the server's addresses, and creates, reads, searches, pages, patches and deletes", async () => {
    await signInAgain();
    const client = new FhirKitClient({ baseUrl: base, bearerToken: admin.token });
    expect(await client.capabilityStatement()).toMatchObject({ fhirVersion: "4.0.1" });
    // It asks three addresses and takes the first answer. The CapabilityStatement is one of them and names no
    // addresses: the extension for them asks for an address at which people authorize programs, and there is none.
    const metadata = () => client.smartAuthMetadata();
    const named = { tokenUrl: new URL(`${platform.gatewayUrl}/auth/token`) };
    await vi.waitFor(async () => expect(await metadata()).toMatchObject(named), { timeout: 20_000, interval: 200 });
    const [first] = patients;
    const body = { ...first, id: undefined, identifier: [{ system: "urn:oid:1.2.36.146.595.217", value: "kit-1" }] };
    const created = await client.create({ resourceType: "Patient", body: body as never });
    const { id = "" } = created as { id?: string };
    expect(await client.read({ resourceType: "Patient", id })).toMatchObject({ id, birthDate: first?.birthDate });
    const found = await client.search({ resourceType: "Patient", searchParams: { gender: "male", _count: 5 } });
    expect(await client.nextPage({ bundle: found as never })).toMatchObject({ entry: expect.objectContaining({ length: 5 }) });
    const patch = [{ op: "replace" as const, path: "/birthDate", value: "2001-02-03" }];
    await client.patch({ resourceType: "Patient", id, jsonPatch: patch });
    expect(await client.vread({ resourceType: "Patient", id, version: "2" })).toMatchObject({ birthDate: "2001-02-03" });
    expect(await client.history({ resourceType: "Patient", id })).toMatchObject({ entry: expect.objectContaining({ length: 2 }) });
    await client.delete({ resourceType: "Patient", id });
    await expect(client.read({ resourceType: "Patient", id })).rejects.toMatchObject({ response: { status: 410 } });
  });

  describe.skipIf("skipped" in withoutSmartFetch)("smart-fetch", { meta: withoutSmartFetch }, () => {
    let venv: string;
    const fetchAll = async (proof: Parameters<typeof fetchInBulk>[2]) => (await fetchInBulk(venv, base, proof, ["Patient"])).length;
    beforeAll(async () => {
      venv = await installSmartFetch(say);
      await signInAgain();
    });

    test("downloads every patient, by the token of a person", async () => {
      expect(await fetchAll({ token: admin.token })).toBe(await living());
    });

    test("downloads every patient, by the key of an API client", async () => {
      const { privateKey, kid, jwks } = await newKeys("ES384");
      const { id } = await register(await logIn(platform), { scopes: ["patient:read", "patient:all"], jwks });
      const key = { keys: [{ ...(await exportJWK(privateKey)), kid, alg: "ES384", key_ops: ["sign"] }] };
      expect(await fetchAll({ clientId: id, key: JSON.stringify(key) })).toBe(await living());
    });

    test("gives a caller without patient:all only their own", async () => {
      const program = await tokenOf(platform, await register(await logIn(platform), { scopes: ["patient:read", "patient:write"] }));
      const own = { ...patients[1], id: undefined, identifier: [{ system: "urn:oid:1.2.36.146.595.217", value: "own-1" }] };
      const created = await clientOf(base, program.token).send("POST", "/Patient", own, json);
      expect(created.status, created.text).toBe(201);
      const found = await fetchInBulk(venv, base, { token: program.token }, ["Patient"]);
      expect(found.map(({ id }) => id)).toEqual([(created.body as Patient).id]);
    });
  });

  test("HAPI's validator finds no error in any answer that a judge got", async () => {
    const wrong = new Map<string, string>();
    const validated = new Set<string>();
    for (const answer of recorder.answers) {
      for (const resource of resourcesIn(answer)) {
        if (validated.has(resource)) continue;
        validated.add(resource);
        const faults = await hapi.validate(resource);
        for (const { where, message } of faults)
          wrong.set(`${where.replaceAll(/\d+/g, "n")}: ${message}`, `${answer.request} (${answer.status})`);
      }
    }
    say(`HAPI validated ${validated.size} resources of ${recorder.answers.length} answers`);
    expect(Object.fromEntries(wrong)).toEqual({});
    expect(validated.size).toBeGreaterThan(patients.length);
  });
});
