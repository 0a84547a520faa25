/** How often somebody is told that a patient whom they may not see has an e-mail address. */
import { randomUUID } from "node:crypto";
import { afterAll, expect, test } from "vitest";
import { type Client, patientsOfThisFile, someBody, startPatientApp } from "./testing.ts";

const { database, service, admin } = await patientsOfThisFile();
const replicas = await Promise.all([startPatientApp(database.databaseUrl), startPatientApp(database.databaseUrl)]);
afterAll(async () => {
  for (const replica of replicas) await replica.close();
});

const maxTold = 20;
const freshEmail = () => `${randomUUID()}@example.com`;

/** E-mail addresses of patients whom nobody but the admin may see. */
async function hiddenEmails(count: number): Promise<string[]> {
  const emails = Array.from({ length: count }, freshEmail);
  const { body } = await importOf(admin, emails);
  expect(body.created).toBe(count);
  return emails;
}

function importOf(client: Client, emails: string[], query = "") {
  const file = emails.map((email) => `${JSON.stringify(someBody({ email }))}\n`).join("");
  return client.send("POST", `/patients:import${query}`, file, { "content-type": "application/x-ndjson" });
}

const create = (client: Client, email: string) => client.send("POST", "/patients", someBody({ email }));

/** A user who was told as often as one may be. */
async function toldOften(): Promise<Client> {
  const client = service.as("user");
  await importOf(client, await hiddenEmails(maxTold), "?dryRun=true");
  return client;
}

const toldTo = async (client: Client) => {
  const text = "select subject, request_id, details from audit_entries where actor = $1 and action = 'patient.conflict_told'";
  return (await service.db.pool.query(text, [client.caller.id])).rows;
};

test("a conflict with a patient whom the caller may not see is counted and audited, one with a patient whom they may see is not", async () => {
  const email = freshEmail();
  const { id } = (await create(admin, email)).body;
  const [stranger, colleague] = [service.as("user"), service.as("user")];
  await admin.send("PUT", `/patients/${id}/access`, { users: [colleague.caller.id], teams: [] });
  for (let round = 0; round < maxTold + 5; round++) {
    expect((await create(colleague, email.toUpperCase())).body).toMatchObject({ status: 409, errors: [{ path: "email" }] });
    expect((await create(admin, email)).status).toBe(409);
  }
  const requestId = randomUUID();
  const refused = await stranger.send("POST", "/patients", someBody({ email }), { "x-request-id": requestId });
  expect(refused.body).toMatchObject({ status: 409, errors: [{ path: "email" }] });
  expect(await toldTo(stranger)).toEqual([{ subject: id, request_id: requestId, details: { kind: "email" } }]);
  expect([await toldTo(colleague), await toldTo(admin)]).toEqual([[], []]);
});

test("who was told twenty times within an hour gets 429 for every write that can tell, and may do everything else", async () => {
  const client = service.as("user");
  const own = (await create(client, freshEmail())).body;
  const removed = (await create(client, freshEmail())).body;
  await client.send("DELETE", `/patients/${removed.id}`);
  const emails = await hiddenEmails(maxTold + 2);
  for (const email of emails.slice(0, maxTold)) expect((await create(client, email)).status).toBe(409);

  const record = someBody({ email: own.email });
  for (const email of [emails[maxTold], emails[maxTold + 1], freshEmail()]) {
    const headers = { "x-request-id": "0123456789" };
    const answers = [
      await client.send("POST", "/patients", someBody({ email }), headers),
      await client.send("PUT", `/patients/${own.id}`, { ...record, email }, headers),
      await client.send("PATCH", `/patients/${own.id}`, { email }, headers),
      await client.send("POST", `/patients/${removed.id}:restore`, undefined, headers),
    ];
    const [first] = answers;
    expect(first?.body).toMatchObject({ status: 429, code: "resource_exhausted" });
    expect(Number(first?.headers.get("retry-after"))).toBeGreaterThan(3_500);
    for (const answer of answers) expect([answer.status, answer.text]).toEqual([429, first?.text]);
  }
  expect((await client.send("PATCH", `/patients/${own.id}`, { name: "Ada King" })).status).toBe(200);
  expect((await client.send("PUT", `/patients/${own.id}`, record)).status).toBe(200);
  expect((await create(service.as("user"), freshEmail())).status).toBe(201);
  expect(await toldTo(client)).toHaveLength(maxTold);
  const { rows } = await service.db.pool.query(
    "select details from audit_entries where actor = $1 and action = 'access.refused' and details->>'code' = 'resource_exhausted'",
    [client.caller.id],
  );
  expect(rows).toHaveLength(12);
});

test.each(["replace", "patch", "restore"])("a %s that meets a patient whom the caller may not see is counted", async (how) => {
  const client = service.as("user");
  const { id, email: before } = (await create(client, freshEmail())).body;
  if (how === "restore") await client.send("DELETE", `/patients/${id}`);
  const taken = how === "restore" ? before : freshEmail();
  await create(admin, taken);
  const answer = {
    replace: () => client.send("PUT", `/patients/${id}`, someBody({ email: taken })),
    patch: () => client.send("PATCH", `/patients/${id}`, { email: taken }),
    restore: () => client.send("POST", `/patients/${id}:restore`),
  }[how];
  expect((await answer?.())?.status).toBe(409);
  expect(await toldTo(client)).toHaveLength(1);
});

test.each(["", "?dryRun=true"])("lines of an import%s after the twentieth conflict fail, whether they conflict or not", async (query) => {
  const client = service.as("user");
  const [hidden, free] = [await hiddenEmails(maxTold + 5), Array.from({ length: 10 }, freshEmail)];
  const file = [...free.slice(0, 5), ...hidden.slice(0, maxTold), ...free.slice(5), ...hidden.slice(maxTold)];
  const { body } = await importOf(client, file, query);
  expect(body).toMatchObject({ lines: file.length, created: 5, failed: file.length - 5 });
  const messages = body.errors.map(({ errors: [error] }: { errors: { message: string }[] }) => error?.message);
  expect(new Set(messages.slice(0, maxTold))).toEqual(new Set(["belongs to another patient; look that one up, or use another address"]));
  expect(messages.slice(maxTold)).toEqual(Array(10).fill("could not be checked; ask an administrator"));
  const again = await importOf(client, [...free, ...hidden], query);
  expect(again.body).toMatchObject({ created: 0, failed: 35 });
  for (const { errors } of again.body.errors) expect(errors).toEqual([{ path: "email", message: messages.at(-1) }]);
  expect(await toldTo(client)).toHaveLength(maxTold);
});

test("of an address that a file has twice, the caller is told without being counted", async () => {
  const client = service.as("user");
  const file = Array.from({ length: maxTold + 5 }, freshEmail);
  for (const query of ["?dryRun=true", ""])
    expect((await importOf(client, [...file, ...file], query)).body).toMatchObject({ created: file.length, failed: file.length });
  expect(await toldTo(client)).toEqual([]);
});

test("the twenty are those of one hour", async () => {
  const client = await toldOften();
  expect((await create(client, freshEmail())).status).toBe(429);
  const later = "update conflict_limits set told_at = array(select at - interval '1 hour' from unnest(told_at) at) where caller = $1";
  await service.db.pool.query(later, [client.caller.id]);
  expect((await create(client, freshEmail())).status).toBe(201);
});

test("of 64 questions at once to three replicas, twenty are answered, and the refused ones are taken and free alike", {
  timeout: 60_000,
}, async () => {
  const refusedOf = { taken: 0, free: 0 };
  for (let round = 0; round < 10; round++) {
    const id = randomUUID();
    const clients = [service, ...replicas].map((replica) => replica.as("user", { id }));
    // Each replica has a connection, and the caller is known: otherwise the first one to connect would win.
    for (const client of clients) expect((await create(client, freshEmail())).status).toBe(201);
    const hidden = new Set(await hiddenEmails(40));
    const emails = [...hidden, ...Array.from({ length: 24 }, freshEmail)].sort();
    const answers = await Promise.all(
      emails.map(async (email, index) => {
        const client = clients[index % clients.length] ?? admin;
        return { email, status: (await create(client, email)).status };
      }),
    );
    const of = (status: number) => answers.filter((answer) => answer.status === status).map(({ email }) => email);
    expect([of(409).length, of(409).every((email) => hidden.has(email))]).toEqual([maxTold, true]);
    expect(of(429).length + of(201).length).toBe(44);
    for (const email of of(429)) refusedOf[hidden.has(email) ? "taken" : "free"] += 1;
  }
  expect(refusedOf.taken).toBe(200);
  // If only conflicts were answered one after the other, all free addresses would pass.
  expect(refusedOf.free).toBeGreaterThan(60);
});

test("conflicts of identifiers are counted as those of e-mails, in every door", async () => {
  const hidden = Array.from({ length: maxTold + 2 }, () => ({ system: "passport-de", value: randomUUID() }));
  for (const identifier of hidden)
    expect((await admin.send("POST", "/patients", someBody({ identifiers: [identifier] }))).status).toBe(201);
  const client = service.as("user");
  const own = (await create(client, freshEmail())).body;
  const doors = [
    (identifier: object) => client.send("POST", "/patients", someBody({ identifiers: [identifier] })),
    (identifier: object) => client.send("PATCH", `/patients/${own.id}`, { identifiers: [identifier] }),
  ];
  for (const [index, identifier] of hidden.entries()) {
    const told = { status: 409, errors: [{ path: "identifiers.passport-de" }] };
    const refused = { status: 429, detail: expect.stringMatching(/^(email|identifiers): could not be checked/) };
    expect((await doors[index % 2]?.(identifier))?.body).toMatchObject(index < maxTold ? told : refused);
  }
  expect(await toldTo(client)).toHaveLength(maxTold);
  expect((await toldTo(client))[0].details).toEqual({ kind: "identifier" });
  const line = { "content-type": "application/x-ndjson" };
  const body = JSON.stringify(someBody({ identifiers: [{ system: "passport-de", value: randomUUID() }] }));
  expect((await client.send("POST", "/patients:import?dryRun=true", body, line)).body).toMatchObject({ failed: 1, errors: [{ line: 1 }] });
});
