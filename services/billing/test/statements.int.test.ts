/** Statements that are larger than a client receives: refused whole, and read page by page or as a stream. */
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { Code, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { BillingService, type GetStatementResponse, type StreamStatementResponse } from "@pm/proto/billing/v1/billing";
import { ErrorInfoSchema } from "@pm/proto/google/rpc/error_details";
import { afterAll, expect, test } from "vitest";
import { StatementJsonSchema } from "../src/documents/schemas.ts";
import { addCharges, openCounter } from "./testing.ts";

const { billing, issuer, clerk, headers, newAccount, rows, failure, close } = await openCounter();
afterAll(close);

// As stock clients have them: grpc-go, grpcio and grpc-java refuse messages above 4 MiB.
const limits = { baseUrl: billing.url, readMaxBytes: 4 * 1024 * 1024 };
const client = createClient(BillingService, createGrpcTransport(limits));
const transports = {
  gRPC: createGrpcTransport(limits),
  "gRPC-Web": createGrpcWebTransport({ ...limits, httpVersion: "1.1" }),
  Connect: createConnectTransport({ ...limits, httpVersion: "1.1" }),
  "Connect JSON": createConnectTransport({ ...limits, httpVersion: "2", useBinaryFormat: false }),
};
const period = { fromDate: "2020-01-01", toDate: new Date().toISOString().slice(0, 10) };
const longText = "A long description of what was done. ".repeat(13);

async function accountWith(charges: number, description = longText): Promise<string> {
  const accountId = await newAccount();
  await rows(addCharges, [accountId, charges, description]);
  return accountId;
}
const charge = (accountId: string) =>
  client.createCharge(
    { accountId, amount: { currencyCode: "EUR", minorUnits: 1n }, description: "Later", requestId: randomUUID() },
    headers,
  );
const sequences = (messages: { transactions: { sequence: bigint }[] }[]) =>
  messages.flatMap(({ transactions }) => transactions.map(({ sequence }) => sequence));
const upTo = (count: number) => Array.from({ length: count }, (_, index) => BigInt(index + 1));

test("a statement is whole up to 3.5 MiB, and a larger one is refused by the names of what gives all of it", async () => {
  const small = await client.getStatement({ accountId: await accountWith(5_000, "Visit"), ...period }, headers);
  expect(small).toMatchObject({ transactionCount: 5_000n, nextPageToken: "", closingBalance: { minorUnits: 500_000n } });
  expect(small.transactions).toHaveLength(5_000);
  const accountId = await accountWith(6_000);
  const error = await failure(client.getStatement({ accountId, ...period }, headers));
  expect([error.code, error.findDetails(ErrorInfoSchema)[0]?.reason]).toEqual([Code.FailedPrecondition, "STATEMENT_TOO_LONG"]);
  for (const way of ["StreamStatement", "page_size"]) expect(error.rawMessage).toContain(way);
});

test.each(Object.entries(transports))("over %s, a stream gives a whole statement as it was at its beginning", async (_, transport) => {
  const accountId = await accountWith(6_000);
  const messages: StreamStatementResponse[] = [];
  for await (const message of createClient(BillingService, transport).streamStatement({ accountId, ...period }, headers)) {
    if (messages.length === 0) await charge(accountId);
    messages.push(message);
  }
  const [{ statement } = {}, ...others] = messages;
  expect(statement).toMatchObject({
    transactionCount: 6_000n,
    openingBalance: { minorUnits: 0n },
    charged: { minorUnits: 600_000n },
    closingBalance: { minorUnits: 600_000n },
    transactions: [],
  });
  expect(sequences(others)).toEqual(upTo(6_000));
  expect(others.filter((message) => message.statement)).toEqual([]);
  const read = "select action from audit_entries where subject = $1 and action like 'statement%'";
  expect(await rows(read, [accountId])).toEqual([{ action: "statement.read" }]);
});

test("pages give a whole statement as it was when the first one was asked for", async () => {
  const accountId = await accountWith(2_500);
  const pages: GetStatementResponse[] = [];
  do {
    const pageToken = pages.at(-1)?.nextPageToken ?? "";
    pages.push(await client.getStatement({ accountId, ...period, pageSize: 1_000, pageToken }, headers));
    await charge(accountId);
  } while (pages.at(-1)?.nextPageToken);
  expect(pages.map(({ transactions }) => transactions.length)).toEqual([1_000, 1_000, 500]);
  expect(sequences(pages)).toEqual(upTo(2_500));
  for (const page of pages) expect(page).toMatchObject({ transactionCount: 2_500n, closingBalance: { minorUnits: 250_000n } });
  const foreign = client.getStatement({ accountId, ...period, fromDate: "2021-01-01", pageToken: pages[0]?.nextPageToken ?? "" }, headers);
  expect((await failure(foreign)).rawMessage).toContain("page_token");
});

test("a period without transactions is a statement with its balances, as a stream and page by page", async () => {
  const accountId = await accountWith(3);
  const later = { accountId, fromDate: "2100-01-01", toDate: "2100-12-31" };
  const balances = { openingBalance: { minorUnits: 300n }, closingBalance: { minorUnits: 300n }, transactionCount: 0n, transactions: [] };
  for (const pageSize of [0, 10]) expect(await client.getStatement({ ...later, pageSize }, headers)).toMatchObject(balances);
  expect(sequences(await Array.fromAsync(client.streamStatement(later, headers)))).toEqual([]);
});

test("lists end a page before it is larger than clients receive, and lose nothing", async () => {
  const face = "\u{1f469}";
  await rows(
    `insert into payers (id, kind, name, address, email, reference, created_at, updated_at)
      select gen_random_uuid(), 'PERSON', repeat($1, 200), repeat($1, 500), repeat($1, 254), repeat($1, 100), now(), now() from generate_series(1, 1000)`,
    [face],
  );
  const seen: string[] = [];
  const sizes: number[] = [];
  let pageToken = "";
  do {
    const page = await client.listPayers({ pageSize: 1_000, pageToken }, headers);
    sizes.push(page.payers.length);
    seen.push(...page.payers.map(({ payerId }) => payerId));
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  expect(new Set(seen).size).toBe(1_000);
  expect(seen).toHaveLength(1_000);
  expect(sizes).toHaveLength(2);
});

test("a stream ends at its deadline, when its caller goes away, and for who may not read it", async () => {
  const accountId = await accountWith(20_000);
  const slowly = async (options: object) => {
    for await (const _ of client.streamStatement({ accountId, ...period }, { ...headers, ...options })) await delay(50);
  };
  expect((await failure(slowly({ timeoutMs: 300 }))).code).toBe(Code.DeadlineExceeded);
  expect((await failure(slowly({ signal: AbortSignal.timeout(300) }))).code).toBe(Code.Canceled);
  for (const [authorization, code] of [
    [await issuer.person("user"), Code.PermissionDenied],
    ["", Code.Unauthenticated],
  ] as const)
    expect((await failure(slowly({ headers: { authorization } }))).code).toBe(code);
  for (const [request, code] of [
    [{ accountId: randomUUID(), ...period }, Code.NotFound],
    [{ accountId, fromDate: "2026-02-30", toDate: "2026-03-01" }, Code.InvalidArgument],
  ] as const)
    expect((await failure(Array.fromAsync(client.streamStatement(request, headers)))).code).toBe(code);
});

/** The memory of billing in MiB. */
const residentMiB = () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${billing.pid}/status`, "utf8"))?.[1]) / 1024;

test("a reader that stops takes neither memory nor a connection of the database, and gets the rest later", {
  timeout: 120_000,
}, async () => {
  const count = 60_000;
  const accountId = await accountWith(count);
  await Array.fromAsync(client.streamStatement({ accountId, ...period }, headers));
  const before = residentMiB();
  const readers = Array.from({ length: 8 }, () =>
    createClient(BillingService, createGrpcTransport(limits))
      .streamStatement({ accountId, ...period }, headers)
      [Symbol.asyncIterator](),
  );
  for (const reader of readers) await reader.next();
  await delay(1_500);
  // All eight would be 350 MiB.
  expect(residentMiB() - before).toBeLessThan(60);
  const busy = "select count(*)::int as busy from pg_stat_activity where application_name = 'billing' and state <> 'idle'";
  expect(await rows(busy)).toEqual([{ busy: 0 }]);
  const [first, ...others] = readers;
  await Promise.all(others.map((reader) => reader.return?.()));
  let seen = 0;
  for (let next = await first?.next(); next && !next.done; next = await first?.next()) seen += next.value.transactions.length;
  expect(seen).toBe(count);
  expect(residentMiB() - before).toBeLessThan(60);
});

test("as HTML and JSON, a long statement is sent as it is read", async () => {
  const accountId = await accountWith(12_000);
  const get = (format: string) =>
    fetch(`${billing.url}/billing/statements/${accountId}?from=${period.fromDate}&to=${period.toDate}&format=${format}`, {
      headers: { authorization: clerk },
    });
  const json = StatementJsonSchema.parse(await (await get("json")).json());
  expect([json.transactions.length, json.transactionCount, json.charged?.minorUnits]).toEqual([12_000, "12000", "1200000"]);
  const html = await (await get("html")).text();
  expect(html.match(/<tr>/g)).toHaveLength(12_002);
  expect(html).toContain("<dt>Charged</dt><dd>€12,000.00</dd>");
  expect(html).toMatch(/<\/html>\s*$/);
  const pdf = await get("pdf");
  expect([pdf.status, ((await pdf.json()) as { detail: string }).detail]).toEqual([409, expect.stringContaining("10000 lines")]);
});

test("a whole year with 5,000 charges is a PDF, and an invoice beside it does not wait for it", { timeout: 120_000 }, async () => {
  const accountId = await accountWith(5_000, "Consultation of half an hour");
  const path = `/billing/statements/${accountId}?from=${period.fromDate}&to=${period.toDate}&format=pdf`;
  const other = `/billing/statements/${await accountWith(3)}?from=${period.fromDate}&to=${period.toDate}&format=pdf`;
  const ended: string[] = [];
  const bytes = async (name: string, url: string) => {
    const answer = await fetch(`${billing.url}${url}`, { headers: { authorization: clerk } });
    const text = Buffer.from(await answer.arrayBuffer()).toString("latin1");
    ended.push(name);
    return text;
  };
  // The thread starts with its first document.
  await bytes("first", other);
  const [long, short] = await Promise.all([bytes("long", path), delay(1_000).then(() => bytes("short", other))]);
  expect(ended).toEqual(["first", "short", "long"]);
  expect(long.match(/\/S \/TR\b/g)?.length).toBeGreaterThan(5_001);
  for (const text of [long, short]) expect(text).toMatch(/^%PDF-1\.7[\s\S]*%%EOF\s*$/);
});
