/** Import and export as streams, over a real Postgres. */
import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { patientsOfThisFile, someBody } from "./testing.ts";

const { service, admin } = await patientsOfThisFile();

const ndjson = { "content-type": "application/x-ndjson" };
const csv = { "content-type": "text/csv" };
const count = async () => (await service.db.pool.query("select count(*)::int as n from patients")).rows[0].n as number;
const lines = (bodies: unknown[]) => bodies.map((body) => `${typeof body === "string" ? body : JSON.stringify(body)}\n`).join("");

test("an import creates the right lines and reports the others by their number", async () => {
  const taken = someBody();
  await admin.send("POST", "/patients", taken);
  const twice = someBody();
  const file = lines([
    someBody(),
    "{",
    someBody({ dateOfBirth: "2999-01-01", name: "" }),
    "",
    taken,
    twice,
    twice,
    "[1]",
    `"${"x".repeat(70_000)}"`,
    someBody(),
  ]);
  const before = await count();
  const { status, body } = await admin.send("POST", "/patients:import", file, ndjson);
  expect(status).toBe(200);
  expect(body).toMatchObject({ dryRun: false, lines: 9, created: 3, failed: 6 });
  expect(
    body.errors.map((error: { line: number; errors: { path: string }[] }) => [error.line, error.errors.map(({ path }) => path).sort()]),
  ).toEqual([
    [2, [""]],
    [3, ["dateOfBirth", "name"]],
    [5, ["email"]],
    [7, ["email"]],
    [8, [""]],
    [9, [""]],
  ]);
  expect(await count()).toBe(before + 3);
  const { rows } = await service.db.pool.query("select count(*)::int as n from audit_entries where action = 'patient.imported'");
  expect(rows[0].n).toBe(3);
});

test("a line with thousands of unknown fields costs little: at most twenty are named, and more than a thousand are too many", async () => {
  const unknown = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, index) => [`f${index}`, 1]));
  const file = lines([someBody(unknown(57)), ...Array(30).fill(unknown(5_000)), someBody()]);
  const { text, body } = await admin.send("POST", "/patients:import", file, ndjson);
  expect(body).toMatchObject({ lines: 32, created: 1, failed: 31 });
  expect(body.errors[0].errors.length).toBe(21);
  expect(body.errors[0].errors.at(-1)).toEqual({ path: "", message: "and 37 more" });
  expect(body.errors[1].errors).toEqual([{ path: "", message: "has more than 1,000 fields" }]);
  expect(text.length).toBeLessThan(5_000);
});

test("a report has the first ten thousand errors, and counts all lines that fail", async () => {
  const file = lines([...Array(10_500).fill("[]"), someBody()]);
  const { body } = await admin.send("POST", "/patients:import", file, ndjson);
  expect(body).toMatchObject({ lines: 10_501, created: 1, failed: 10_500 });
  expect([body.errors.length, body.errors[0].line, body.errors.at(-1).line]).toEqual([10_000, 1, 10_000]);
  const unknown = Object.fromEntries(Array.from({ length: 60 }, (_, index) => [`f${index}`, 1]));
  const wrong = await admin.send("POST", "/patients:import", lines(Array(1_000).fill(unknown)), ndjson);
  expect([wrong.body.failed, wrong.body.errors.length]).toEqual([1_000, Math.ceil(10_000 / 21)]);
});

test("a dry run reports what an import would, and creates nothing", async () => {
  const twice = someBody();
  const file = lines([
    ...Array.from({ length: 600 }, () => someBody()),
    twice,
    "nonsense",
    ...Array.from({ length: 600 }, () => someBody()),
    twice,
  ]);
  const before = await count();
  // What may be registered already depends on the lines that are stored.
  const dry = await admin.send("POST", "/patients:import?dryRun=true&duplicates=allow", file, {
    ...ndjson,
    "idempotency-key": "a key that a dry run leaves alone",
  });
  expect(await count()).toBe(before);
  const wet = await admin.send("POST", "/patients:import?duplicates=allow", file, {
    ...ndjson,
    "idempotency-key": "a key that a dry run leaves alone",
  });
  expect(dry.body).toMatchObject({ dryRun: true, lines: 1203, created: 1201, failed: 2 });
  expect(wet.body).toEqual({ ...dry.body, dryRun: false, importId: wet.body.importId });
});

test("an import that was cut off goes on where it stopped, and a finished one gives its report again", async () => {
  // With spaces, since nothing is stored before the first MiB is examined.
  const bodies = Array.from({ length: 1_700 }, (_, index) =>
    JSON.stringify(someBody(index % 100 === 0 ? { email: "wrong" } : {})).padEnd(1_000),
  );
  const key = randomUUID();
  const before = await count();
  const cut = new ReadableStream<Uint8Array>({
    start(controller) {
      controller.enqueue(new TextEncoder().encode(lines(bodies.slice(0, 1_300))));
    },
    pull(controller) {
      controller.error(new Error("the client went away"));
    },
  });
  const headers = { authorization: `Bearer ${admin.caller.token}`, ...ndjson, "idempotency-key": key };
  const request = new Request("http://localhost/patients:import", { method: "POST", body: cut, headers, duplex: "half" } as RequestInit);
  expect((await service.app.request(request)).status).toBeGreaterThanOrEqual(400);
  const stopped = await count();
  expect(stopped).toBeGreaterThan(before);
  expect(stopped).toBeLessThan(before + 1_683);
  const send = (file: string) => admin.send("POST", "/patients:import", file, { ...ndjson, "idempotency-key": key });
  const done = await send(lines(bodies));
  expect(done.body).toMatchObject({ lines: 1_700, created: 1_683, failed: 17 });
  expect(done.body.errors).toHaveLength(17);
  expect(await count()).toBe(before + 1_683);
  expect((await send(lines(bodies))).body).toEqual(done.body);
  for (const other of [lines(bodies.slice(1)), lines([...bodies, someBody()]), lines([someBody()])])
    expect((await send(other)).status).toBe(422);
  expect(await count()).toBe(before + 1_683);
});

test("two imports at once under one key create every patient once", async () => {
  const file = lines(Array.from({ length: 1_200 }, () => someBody()));
  const before = await count();
  const key = randomUUID();
  const send = () => admin.send("POST", "/patients:import", file, { ...ndjson, "idempotency-key": key });
  const statuses = (await Promise.all([send(), send()])).map((answer) => answer.status);
  expect(statuses.filter((status) => status !== 200 && status !== 409)).toEqual([]);
  expect((await send()).body).toMatchObject({ created: 1_200, failed: 0 });
  expect(await count()).toBe(before + 1_200);
});

test("CSV is read with its quotes, byte order mark and parts of addresses, and wrong lines are reported", async () => {
  const [one, two, three] = [randomUUID(), randomUUID(), randomUUID()].map((id) => `${id}@example.com`);
  const file = `\uFEFFName,Email,dateOfBirth,street,city,phoneNumber,sex\r\n"O'Neill, Søren",${one},1987-04-12,"Nørregade 10
2. sal",København,,\r\nAda,${two},1987-04-12,1 Main St,,'+12175550123,female\r\nToo,few\r\n,${three},1987-13-01,x,,,\r\n`;
  const { status, body } = await admin.send("POST", "/patients:import", file, csv);
  expect(status).toBe(200);
  expect(body).toMatchObject({ lines: 4, created: 2, failed: 2 });
  expect(
    body.errors.map((error: { line: number; errors: { path: string }[] }) => [error.line, error.errors.map(({ path }) => path).sort()]),
  ).toEqual([
    [5, [""]],
    [6, ["dateOfBirth", "name"]],
  ]);
  const { items } = (await admin.send("GET", `/patients?q=${two}`)).body;
  expect(items).toMatchObject([{ name: "Ada", phoneNumber: "+12175550123", address: { street: "1 Main St" } }]);
  const [first] = (await admin.send("GET", `/patients?q=${one}`)).body.items;
  expect(first).toMatchObject({ name: "O'Neill, Søren", address: { street: "Nørregade 10, 2. sal" } });
  expect((await admin.send("POST", "/patients:import", "name,emial\nx,y\n", csv)).body.errors[0].path).toBe("header.emial");
  expect((await admin.send("POST", "/patients:import", "x", { "content-type": "application/pdf" })).status).toBe(415);
});

test.each(["ndjson", "csv"])("an export as %s can be imported again", async (format) => {
  const owner = service.as("user");
  const bodies = [
    someBody({ name: "=Formula", phoneNumber: "+442071234567", address: { street: '1 "Main" St', city: "Zürich", zipCode: "8001" } }),
    someBody({ name: undefined, firstName: "Ana", lastName: "Núñez, Jr.", sex: "female" }),
  ];
  for (const body of bodies) expect((await owner.send("POST", "/patients", body)).status).toBe(201);
  const strip = ({
    id: _id,
    version: _version,
    createdAt: _created,
    updatedAt: _updated,
    billing: _billing,
    ...record
  }: Record<string, unknown>) => record;
  // By name: what is imported together has one time of creation.
  const original = (await owner.send("GET", "/patients?sort=name")).body.items;
  const exported = await owner.send("GET", `/patients:export?format=${format}`);
  expect(exported.headers.get("content-type")).toContain(format);
  for (const { id } of original) await owner.send("DELETE", `/patients/${id}`);
  const heir = service.as("user");
  const { body } = await heir.send("POST", "/patients:import", exported.text, {
    "content-type": exported.headers.get("content-type") ?? "",
  });
  expect(body).toMatchObject({ created: 2, failed: 0 });
  expect((await heir.send("GET", "/patients?sort=name")).body.items.map(strip)).toEqual(original.map(strip));
});

test("patients of a slow upload have the time at which they are stored", async () => {
  const owner = service.as("user");
  const { promise: isTime, resolve: sendRest } = Promise.withResolvers<void>();
  const file = new ReadableStream<Uint8Array>({
    async start(controller) {
      // The first thousand is stored. The others are taken, and wait until there are more or the file ends.
      controller.enqueue(Buffer.from(lines(Array.from({ length: 1_100 }, () => JSON.stringify(someBody()).padEnd(1_000)))));
      await isTime;
      controller.enqueue(Buffer.from(lines([someBody()])));
      controller.close();
    },
  });
  const headers = { authorization: `Bearer ${owner.caller.token}`, ...ndjson };
  const request = new Request("http://localhost/patients:import", { method: "POST", body: file, headers, duplex: "half" } as RequestInit);
  const answer = service.app.request(request);
  const storedSince = async (at: Date) => {
    const text = "select count(*)::int as n from patient_versions where changed_by = $1 and changed_at >= $2";
    return (await service.db.pool.query(text, [owner.caller.id, at])).rows[0].n;
  };
  await expect.poll(() => storedSince(new Date(0)), { timeout: 20_000 }).toBe(1_000);
  const sentAt = new Date();
  sendRest();
  expect(await (await answer).json()).toMatchObject({ created: 1_101 });
  expect(await storedSince(sentAt)).toBe(101);
});

test("240 MB go through an import without staying in memory", { timeout: 120_000 }, async () => {
  const wrong = Buffer.from(`${JSON.stringify(someBody({ name: "x".repeat(10_000) }))}\n`);
  let sent = 0;
  let most = 0;
  const file = new ReadableStream<Uint8Array>({
    pull(controller) {
      if (sent === 24_000) {
        controller.close();
        return;
      }
      controller.enqueue(sent % 100 === 0 ? Buffer.from(lines([someBody()])) : wrong);
      sent += 1;
      if (sent % 500 === 0) most = Math.max(most, process.memoryUsage().rss);
    },
  });
  const before = process.memoryUsage().rss;
  const headers = { authorization: `Bearer ${admin.caller.token}`, ...ndjson };
  const request = new Request("http://localhost/patients:import", { method: "POST", body: file, headers, duplex: "half" } as RequestInit);
  const answer = await (await service.app.request(request)).json();
  expect(answer).toMatchObject({ lines: 24_000, created: 240, failed: 23_760 });
  expect((most - before) / 1024 / 1024).toBeLessThan(100);
});

test("an export reads no further ahead than its reader", { timeout: 120_000 }, async () => {
  const owner = service.as("user");
  const file = lines(Array.from({ length: 6_000 }, () => someBody()));
  expect((await owner.send("POST", "/patients:import", file, ndjson)).body.created).toBe(6_000);
  const pages = async () =>
    (
      await service.db.pool.query("select count(*)::int as n from audit_entries where actor = $1 and action = 'patient.exported'", [
        owner.caller.id,
      ])
    ).rows[0].n;
  const response = await service.app.request("/patients:export", { headers: { authorization: `Bearer ${owner.caller.token}` } });
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  let text = Buffer.from((await reader.read()).value ?? []).toString();
  for (let round = 0; round < 20; round++) await service.db.pool.query("select 1");
  expect(await pages()).toBeLessThanOrEqual(4);
  for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) text += Buffer.from(chunk.value).toString();
  expect(
    new Set(
      text
        .split("\n")
        .filter(Boolean)
        .map((line) => JSON.parse(line).id),
    ).size,
  ).toBe(6_000);
  expect(await pages()).toBe(6);
});
