/** The service as a process, over the network: gRPC, Connect and plain JSON. */
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import http2 from "node:http2";
import { gzipSync } from "node:zlib";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Code, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { BillingAccountStatus, BillingService, CreateChargeRequestSchema } from "@pm/proto/billing/v1/billing";
import { BillingEventSchema } from "@pm/proto/billing/v1/events";
import { ErrorInfoSchema } from "@pm/proto/google/rpc/error_details";
import { afterAll, expect, test } from "vitest";
import { openCounter } from "./testing.ts";

const { billing, issuer, headers, opener, client, newPatient, rows, failure, post, close } = await openCounter();
afterAll(close);

test("one port answers gRPC, Connect, gRPC-Web and JSON by curl", async () => {
  const patient = newPatient();
  const { accountId, status } = await client.createBillingAccount(patient, opener);
  expect(status).toBe("ACTIVE");
  const others = [
    createConnectTransport({ baseUrl: billing.url, httpVersion: "1.1" }),
    createConnectTransport({ baseUrl: billing.url, httpVersion: "2" }),
    createGrpcWebTransport({ baseUrl: billing.url, httpVersion: "1.1" }),
  ];
  for (const transport of others) {
    const { account } = await createClient(BillingService, transport).getBillingAccount(
      { key: { case: "patientId", value: patient.patientId } },
      headers,
    );
    expect(account).toMatchObject({ accountId, patientId: patient.patientId, status: BillingAccountStatus.ACTIVE });
  }
  const answer = await post("GetBillingAccount", JSON.stringify({ accountId }));
  expect(await answer.json()).toMatchObject({ account: { accountId, status: "BILLING_ACCOUNT_STATUS_ACTIVE" } });
});

test("opening an account writes an audit entry and one event, and asking for it again another entry", async () => {
  const patient = newPatient();
  const { accountId } = await client.createBillingAccount(patient, opener);
  await client.createBillingAccount(patient, opener);
  expect(await rows("select action, actor from audit_entries where subject = $1 order by id", [accountId])).toEqual([
    { action: "account.opened", actor: expect.stringMatching(/^[0-9a-f-]{36}$/) },
    { action: "account.read", actor: expect.stringMatching(/^[0-9a-f-]{36}$/) },
  ]);
  const events = await rows("select key, type, payload from outbox where key = $1", [accountId]);
  expect(events).toMatchObject([{ key: accountId, type: "billing.v1.account_opened" }]);
  expect(fromBinary(BillingEventSchema, events[0].payload)).toMatchObject({
    accountId,
    patientId: patient.patientId,
    event: { case: "accountOpened", value: { currencyCode: "EUR" } },
  });
});

test("64 parallel requests for one patient open one account", async () => {
  const patient = newPatient();
  const answers = await Promise.all(Array.from({ length: 64 }, () => client.createBillingAccount(patient, opener)));
  expect(new Set(answers.map((answer) => answer.accountId)).size).toBe(1);
  expect(await rows("select count(*)::int as count from accounts where patient_id = $1", [patient.patientId])).toEqual([{ count: 1 }]);
});

test("batches with the same patients in another order do not lock up, and answer in their own order", async () => {
  const patients = Array.from({ length: 100 }, newPatient);
  const orders = Array.from({ length: 8 }, (_, index) => (index % 2 ? patients : patients.toReversed()));
  const answers = await Promise.all(orders.map((requests) => client.batchCreateBillingAccounts({ requests }, opener)));
  const ids = answers.map(({ accounts }, index) => {
    const inOrder = accounts.map((account) => account.accountId);
    return (index % 2 ? inOrder : inOrder.toReversed()).join();
  });
  expect(new Set(ids).size).toBe(1);
});

test("a request id stands for one patient for ever", async () => {
  const requestId = randomUUID();
  const patient = { ...newPatient(), requestId };
  const first = await client.createBillingAccount(patient, opener);
  expect(await client.createBillingAccount(patient, opener)).toEqual(first);
  const error = await failure(client.createBillingAccount({ ...newPatient(), requestId }, opener));
  expect(error.code).toBe(Code.AlreadyExists);
  expect(error.findDetails(ErrorInfoSchema)).toMatchObject([{ reason: "REQUEST_ID_REUSED", domain: "patient-management" }]);
});

test("a request id for an account that was there already stands for its patient too", async () => {
  const [one, other] = [newPatient(), newPatient()];
  const { accountId } = await client.createBillingAccount(one, opener);
  await client.createBillingAccount(other, opener);
  const requestId = randomUUID();
  const answers = await Promise.all(Array.from({ length: 16 }, () => client.createBillingAccount({ ...one, requestId }, opener)));
  expect(new Set(answers.map((answer) => answer.accountId))).toEqual(new Set([accountId]));
  for (const patient of [other, newPatient()]) {
    const error = await failure(client.createBillingAccount({ ...patient, requestId }, opener));
    expect([error.code, error.findDetails(ErrorInfoSchema)[0]?.reason]).toEqual([Code.AlreadyExists, "REQUEST_ID_REUSED"]);
  }
});

test("nobody learns from an error before they are known", async () => {
  for (const [token, code] of [
    ["", "unauthenticated"],
    ["Bearer a.b.c", "unauthenticated"],
    [await issuer.person("analyst"), "permission_denied"],
  ] as const) {
    const answer = await post("CreateBillingAccount", "{not json", token);
    expect(await answer.json()).toMatchObject({ code, details: [{ debug: { domain: "patient-management" } }] });
  }
});

test("a wrong request names every wrong field, with a reason", async () => {
  const wrong = await post("CreateBillingAccount", JSON.stringify({ patientId: "x", email: "x", currencyCode: "eur" }));
  expect(wrong.status).toBe(400);
  const body = JSON.stringify(await wrong.json());
  for (const field of ["patient_id", "name", "email", "currency_code"]) expect(body).toContain(`"field":"${field}"`);
  const unknownCurrency = JSON.stringify({ ...newPatient(), currencyCode: "XQX" });
  expect(await (await post("CreateBillingAccount", unknownCurrency, await issuer.service("patient"))).text()).toContain("ISO 4217");
  expect(await (await post("CreateBillingAccount", "{")).json()).toMatchObject({
    code: "invalid_argument",
    details: [{ debug: { reason: "INVALID_ARGUMENT" } }, { debug: { fieldViolations: [{ description: "is not valid JSON" }] } }],
  });
  expect((await post("GetBillingAccount", JSON.stringify({ accountId: randomUUID() }))).status).toBe(404);
});

test("a number in JSON that would be rounded is refused by the name of its field, and as text it is read as it is", async () => {
  const accountId = (await client.createBillingAccount(newPatient(), opener)).accountId;
  const charge = (minorUnits: string) =>
    post(
      "CreateCharge",
      `{"accountId": "${accountId}", "amount": {"currencyCode": "EUR", "minorUnits": ${minorUnits}}, "description": "X", "requestId": "${randomUUID()}"}`,
    );
  for (const number of ["9007199254740993", "1.0000000000000000001"]) {
    const refused = await charge(number);
    expect([refused.status, await refused.json()]).toMatchObject([
      400,
      {
        code: "invalid_argument",
        message: expect.stringContaining("amount.minorUnits: would be rounded to"),
        details: [
          { debug: { reason: "INVALID_ARGUMENT" } },
          { debug: { fieldViolations: [{ field: "amount.minorUnits", description: expect.stringContaining("would be rounded") }] } },
        ],
      },
    ]);
  }
  for (const number of ["1000000000000", '"1000000000000"', "1e12"])
    expect(await (await charge(number)).json()).toMatchObject({ charge: { amount: { minorUnits: "1000000000000" } } });
});

test.each([
  ["CreateCharge", { accountId: "", description: "Surgery" }],
  ["RecordPayment", { accountId: "" }],
  ["RefundPayment", { paymentId: randomUUID(), reason: "Cancelled" }],
])("%s takes at most 10^12 minor units", async (method, fields) => {
  const { accountId } = await client.createBillingAccount(newPatient(), opener);
  const request = (minorUnits: bigint) => ({
    ...{ ...fields, ...("accountId" in fields && { accountId }), requestId: randomUUID() },
    amount: { currencyCode: "EUR", minorUnits: String(minorUnits) },
  });
  for (const minorUnits of [10n ** 12n + 1n, 2n ** 53n, 0n, -1n]) {
    const refused = await (await post(method, JSON.stringify(request(minorUnits)))).json();
    expect(refused).toMatchObject({ code: "invalid_argument", details: [{}, { debug: { fieldViolations: [{ field: "amount" }] } }] });
  }
  expect(JSON.stringify(await (await post(method, JSON.stringify(request(10n ** 12n)))).json())).not.toContain("invalid_argument");
});

test("text that hides or turns around is refused by the name of its field, and an account's name is stored as NFC", async () => {
  const opened = await client.createBillingAccount({ ...newPatient(), name: "Jose\u0301" }, opener);
  const { accountId } = opened;
  const nameOf = async () => (await client.getBillingAccount({ key: { case: "accountId", value: accountId } }, headers)).account?.name;
  expect(await nameOf()).toBe("José");
  await client.updateBillingAccount({ account: { accountId, name: "Zoe\u0308" }, requestId: randomUUID() }, headers);
  expect(await nameOf()).toBe("Zoë");

  const amount = { currencyCode: "EUR", minorUnits: "100" };
  for (const wrong of ["\u200b", "\u2800 ", "Surgery \u202e001", "X\u2066"])
    for (const [method, field, request] of [
      ["CreateBillingAccount", "name", { ...newPatient(), name: wrong }],
      ["BatchCreateBillingAccounts", "requests[0].name", { requests: [{ ...newPatient(), name: wrong }] }],
      ["UpdateBillingAccount", "account.name", { account: { accountId, name: wrong }, requestId: randomUUID() }],
      ["CreateCharge", "description", { accountId, amount, description: wrong, requestId: randomUUID() }],
      ["VoidCharge", "reason", { chargeId: randomUUID(), reason: wrong, requestId: randomUUID() }],
      ["RecordPayment", "reference", { accountId, amount, method: "PAYMENT_METHOD_CASH", reference: wrong, requestId: randomUUID() }],
      ["RefundPayment", "reason", { paymentId: randomUUID(), amount, reason: wrong, requestId: randomUUID() }],
      ["VoidInvoice", "reason", { invoiceId: randomUUID(), reason: wrong, requestId: randomUUID() }],
    ] as const) {
      const refused = await (await post(method, JSON.stringify(request))).json();
      expect(refused, method).toMatchObject({ code: "invalid_argument", details: [{}, { debug: { fieldViolations: [{ field }] } }] });
    }
  const charge = { accountId, amount, description: "ویزیت می‌شود 👩‍⚕️", requestId: randomUUID() };
  expect(await (await post("CreateCharge", JSON.stringify(charge))).json()).toMatchObject({ charge: { description: charge.description } });
});

test("text that is not UTF-8 is refused on every wire and reaches no ledger", async () => {
  const { accountId } = await client.createBillingAccount(newPatient(), opener);
  const charge = { accountId, amount: { currencyCode: "EUR", minorUnits: 100n }, description: "Caf_", requestId: randomUUID() };
  const bytes = Buffer.from(toBinary(CreateChargeRequestSchema, create(CreateChargeRequestSchema, charge)));
  bytes[bytes.indexOf("Caf_") + 3] = 0xe9;
  const send = async (type: string, body: Uint8Array, others: Record<string, string> = {}) => {
    const answer = await fetch(`${billing.url}/billing.v1.BillingService/CreateCharge`, {
      method: "POST",
      headers: { "content-type": type, ...headers.headers, ...others },
      body: Buffer.from(body),
    });
    return { status: answer.status, body: (await answer.json()) as object };
  };
  const refused = { code: "invalid_argument", message: expect.stringContaining("is not UTF-8") };
  const json = JSON.stringify({ ...charge, amount: { ...charge.amount, minorUnits: "100" }, description: "Caf\xe9" });
  expect(await send("application/json", Buffer.from(json, "latin1"))).toMatchObject({ status: 400, body: refused });
  expect(await send("application/json", Buffer.from(json.replace("\xe9", "\\ud800")))).toMatchObject({
    status: 400,
    body: { message: expect.stringContaining("description: has half of a surrogate pair") },
  });
  expect(await send("application/proto", bytes)).toMatchObject({ status: 400, body: refused });
  const zip = { "content-encoding": "gzip" };
  expect(await send("application/json", gzipSync(Buffer.from(json, "latin1")), zip)).toMatchObject({ status: 400, body: refused });

  const session = http2.connect(billing.url);
  const stream = session.request({
    ...{ ":method": "POST", ":path": "/billing.v1.BillingService/CreateCharge", te: "trailers" },
    ...{ "content-type": "application/grpc", ...headers.headers },
  });
  const head = Buffer.alloc(5);
  head.writeUInt32BE(bytes.byteLength, 1);
  stream.resume().end(Buffer.concat([head, bytes]));
  const [trailers] = await once(stream, "trailers");
  session.close();
  expect(trailers["grpc-status"]).toBe(String(Code.InvalidArgument));
  expect(decodeURIComponent(trailers["grpc-message"])).toContain("is not UTF-8");

  expect(await rows("select 1 from transactions where account_id = $1", [accountId])).toEqual([]);
  const compressed = await send("application/json", gzipSync(json), zip);
  expect(compressed.status, JSON.stringify(compressed.body)).toBe(200);
});

test("health and metrics answer without a token", async () => {
  expect(await (await fetch(`${billing.url}/health/ready`)).json()).toEqual({ status: "ready" });
  expect(await (await fetch(`${billing.url}/metrics`)).text()).toContain('operation="CreateBillingAccount",status="ok"');
});
