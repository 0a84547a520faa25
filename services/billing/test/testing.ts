/** For tests: billing as a process, and an issuer of tokens that it trusts, with real keys, HTTP and signatures. */
import { randomUUID, randomUUIDv7 } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { roles, type ServiceName, services } from "@pm/kit/auth/access";
import { createCursors } from "@pm/kit/cursor";
import { createLogger } from "@pm/kit/log";
import { openDatabase } from "@pm/kit/postgres/database";
import { BillingService, PaymentMethod, TaxMode } from "@pm/proto/billing/v1/billing";
import { BillingInternalService } from "@pm/proto/billing/v1/internal";
import { MoneySchema } from "@pm/proto/common/v1/money";
import { query } from "@pm/stack/native/postgres";
import { freePort } from "@pm/stack/programs/ports";
import { type Service, startService } from "@pm/stack/services";
import { testDatabase } from "@pm/stack/testing";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { createAccounts } from "../src/accounts/accounts.ts";
import { requestKey } from "../src/idempotency/idempotency.ts";
import { createInvoices } from "../src/invoices/invoices.ts";
import { createReductions } from "../src/invoices/reductions.ts";
import { createHistory } from "../src/ledger/history.ts";
import { createBooks } from "../src/ledger/journal.ts";
import { createLedger } from "../src/ledger/ledger.ts";
import type { Tables } from "../src/tables.ts";

const issuer = "http://localhost:4004";
const audience = "patient-management";

export type Issuer = {
  /** Serves the JWKS, `POST /auth/token` and `GET /auth/revocations` as auth does. */
  url: string;
  /** The `authorization` header of somebody with these roles. */
  person(role: keyof typeof roles, options?: { id?: string; expiresInSeconds?: number; scope?: string }): Promise<string>;
  /** The `authorization` header of a service. */
  service(name: ServiceName): Promise<string>;
  close(): Promise<void>;
};

/** Starts an issuer that signs by the scopes of the access table. */
export async function startIssuer(): Promise<Issuer> {
  const { publicKey, privateKey } = await generateKeyPair("ES256");
  const jwk = { ...(await exportJWK(publicKey)), kid: "test", alg: "ES256", use: "sig" };
  const sign = (claims: Record<string, unknown>, seconds: number) =>
    new SignJWT({ jti: randomUUID(), ...claims })
      .setProtectedHeader({ alg: "ES256", typ: "at+jwt", kid: "test" })
      .setIssuer(issuer)
      .setAudience(audience)
      .setIssuedAt()
      .setExpirationTime(Math.floor(Date.now() / 1_000) + seconds)
      .sign(privateKey);
  const service = (name: ServiceName) => sign({ sub: `service:${name}`, scope: services[name].join(" ") }, 300);
  const server = createServer(async (request, response) => {
    response.setHeader("content-type", "application/json");
    if (request.url === "/.well-known/jwks.json") return response.end(JSON.stringify({ keys: [jwk] }));
    if (request.url === "/auth/revocations") return response.end(JSON.stringify({ sessions: [], users: [] }));
    const client = /^Basic (.+)$/.exec(request.headers.authorization ?? "")?.[1] ?? "";
    const name = Buffer.from(client, "base64").toString().split(":")[0] as ServiceName;
    if (request.url === "/auth/token" && name in services)
      return response.end(JSON.stringify({ access_token: await service(name), token_type: "Bearer", expires_in: 300 }));
    return response.writeHead(404).end("{}");
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async person(role, { id = randomUUID(), expiresInSeconds = 300, scope = roles[role].join(" ") } = {}) {
      return `Bearer ${await sign({ sub: id, sid: randomUUID(), roles: [role], scope }, expiresInSeconds)}`;
    },
    service: async (name) => `Bearer ${await service(name)}`,
    async close() {
      server.close();
      server.closeAllConnections();
    },
  };
}

/** Starts billing as a process. Without brokers, events stay in the outbox, where tests can read them. */
export async function startBilling(options: {
  databaseUrl: string;
  issuer: Issuer;
  brokers?: string[];
  patientUrl?: string;
  env?: Record<string, string>;
}): Promise<Service> {
  return startService({
    name: "billing",
    port: await freePort(),
    env: {
      ...environmentFor(options.issuer),
      DATABASE_URL: options.databaseUrl,
      PATIENT_URL: options.patientUrl ?? `http://${nowhere}`,
      ...(options.brokers && { KAFKA_BROKERS: options.brokers.join(",") }),
      ...options.env,
    },
  });
}

const nowhere = "127.0.0.1:9";

/** The environment of every service that trusts this issuer, without Kafka. */
export function environmentFor({ url }: Issuer): Record<string, string> {
  return {
    HOST: "127.0.0.1",
    LOG_LEVEL: "warn",
    KAFKA_BROKERS: nowhere,
    AUTH_URL: url,
    AUTH_ISSUER: issuer,
    AUTH_AUDIENCE: audience,
    CLIENT_SECRET: "a-secret-for-tests",
    CURSOR_KEY: "0123456789abcdef0123456789abcdef",
  };
}

/** Billing with its own database and issuer, and the calls of a clerk over the network. */
export async function openCounter() {
  const [database, issuer] = await Promise.all([testDatabase("billing"), startIssuer()]);
  const billing = await startBilling({ databaseUrl: database.databaseUrl, issuer });
  const clerk = await issuer.person("billing");
  const headers = { headers: { authorization: clerk } };
  // Patient-service does not run here, so accounts are opened as it opens them: by its own token, for a person.
  const opener = { headers: { authorization: await issuer.service("patient"), "x-on-behalf-of": clerk } };
  const transport = createGrpcTransport({ baseUrl: billing.url });
  const client = createClient(BillingService, transport);
  const internal = createClient(BillingInternalService, transport);
  const newPatient = () => ({ patientId: randomUUID(), name: "Ada", email: "ada@example.com" });
  return {
    ...{ billing, issuer, clerk, headers, opener, client, internal, newPatient, databaseUrl: database.databaseUrl },
    newAccount: async () => (await client.createBillingAccount(newPatient(), opener)).accountId,
    rows: (sql: string, values: unknown[] = []) =>
      query(database.databaseUrl, async (connection) => (await connection.query(sql, values)).rows),
    /** The error of a call. */
    failure: (call: Promise<unknown>): Promise<ConnectError> =>
      call.then(
        () => Promise.reject(new Error("the call did not fail")),
        (error: unknown) => ConnectError.from(error),
      ),
    /** A call as curl makes it. */
    post: (method: string, body: string, authorization = clerk) =>
      fetch(`${billing.url}/billing.v1.BillingService/${method}`, {
        method: "POST",
        headers: { "content-type": "application/json", ...(authorization && { authorization }) },
        body,
      }),
    async close() {
      await billing.stop();
      await issuer.close();
      await database.drop();
    },
  };
}

/** The rules on a test database, as one replica has them. Tests may kill its connections. */
export function openReplica(databaseUrl: string, options: { now?: () => Date; clinicTimeZone?: string } = {}) {
  const log = createLogger("billing", "silent");
  const db = openDatabase<Tables>({ settings: { url: databaseUrl }, poolSize: 10, applicationName: "billing", log });
  const shared = {
    db,
    cursors: createCursors("0123456789abcdef0123456789abcdef"),
    now: options.now ?? (() => new Date()),
    clinicTimeZone: options.clinicTimeZone ?? "UTC",
    newId: randomUUIDv7,
    committed: () => undefined,
  };
  const ledger = createLedger(shared);
  const reductionsOf = createReductions(shared);
  const context = { actorId: "test", requestId: "test", traceparent: "" };
  const { method } = BillingService;
  return {
    ...{ db, log, context },
    accounts: createAccounts({ ...shared, defaultCurrency: "EUR" }),
    invoices: createInvoices(shared),
    history: createHistory(shared),
    books: createBooks(shared),
    /** Opens an account and gives its id. */
    async newAccount(): Promise<string> {
      const request = { patientId: randomUUID(), name: "Ada Lovelace", email: "ada@example.com", requestId: "", currencyCode: "" };
      return (await this.accounts.open(request, context)).id;
    },
    charge(accountId: string, minorUnits: bigint, requestId: string = randomUUID(), description = "Consultation", serviceDate = "") {
      const request = { accountId, amount: euros(minorUnits), description, serviceDate, requestId };
      return ledger.charge(request, requestKey(method.createCharge, create(method.createCharge.input, request)), context);
    },
    chargeWithTax(accountId: string, minorUnits: bigint, { code = "VAT", rate, mode }: TaxOfCharge, requestId: string = randomUUID()) {
      const tax = { code, rateBasisPoints: rate, mode: mode === "inclusive" ? TaxMode.INCLUSIVE : TaxMode.EXCLUSIVE };
      const request = create(method.createCharge.input, { accountId, amount: euros(minorUnits), description: "Lens", requestId, tax });
      return ledger.charge({ ...request, amount: euros(minorUnits) }, requestKey(method.createCharge, request), context);
    },
    pay(accountId: string, minorUnits: bigint, requestId: string = randomUUID(), to: Part[] = []) {
      const init = { accountId, amount: euros(minorUnits), method: PaymentMethod.CARD, requestId, allocations: toAllocations(to) };
      const request = create(method.recordPayment.input, init);
      return ledger.pay({ ...request, amount: euros(minorUnits) }, requestKey(method.recordPayment, request), context);
    },
    payOn(accountId: string, paymentDate: string) {
      const init = { accountId, amount: euros(1n), method: PaymentMethod.TRANSFER, requestId: randomUUID(), paymentDate };
      const request = create(method.recordPayment.input, init);
      return ledger.pay({ ...request, amount: euros(1n) }, requestKey(method.recordPayment, request), context);
    },
    reallocate(paymentId: string, to: Part[], requestId: string = randomUUID()) {
      const request = create(method.reallocatePayment.input, { paymentId, requestId, allocations: toAllocations(to) });
      return ledger.reallocate(request, requestKey(method.reallocatePayment, request), context);
    },
    refund(paymentId: string, minorUnits: bigint | undefined, requestId: string = randomUUID()) {
      const amount = minorUnits === undefined ? undefined : euros(minorUnits);
      const request = { paymentId, amount, reason: "Cancelled", requestId };
      const message = create(method.refundPayment.input, { paymentId, reason: "Cancelled", requestId, ...(amount && { amount }) });
      return ledger.refund(request, requestKey(method.refundPayment, message), context);
    },
    void(chargeId: string, requestId: string = randomUUID()) {
      const request = { chargeId, reason: "Mistake", requestId };
      return ledger.void(request, requestKey(method.voidCharge, create(method.voidCharge.input, request)), context);
    },
    createInvoice(init: MessageInitShape<typeof method.createInvoice.input>) {
      const request = create(method.createInvoice.input, { requestId: randomUUID(), ...init });
      return this.invoices.create(request, requestKey(method.createInvoice, request), context);
    },
    voidInvoice(invoiceId: string) {
      const request = create(method.voidInvoice.input, { invoiceId, reason: "Mistake", requestId: randomUUID() });
      return this.invoices.void(request, requestKey(method.voidInvoice, request), context);
    },
    discount(invoiceId: string, reductions: Cut[], requestId: string = randomUUID()) {
      const init = { invoiceId, reductions: toReductions(reductions), reason: "Family", requestId };
      const request = create(method.discountInvoice.input, init);
      return reductionsOf.discount(request, requestKey(method.discountInvoice, request), context);
    },
    credit(invoiceId: string, reductions: Cut[] = [], requestId: string = randomUUID()) {
      const request = create(method.createCreditNote.input, {
        invoiceId,
        reductions: toReductions(reductions),
        reason: "Mistake",
        requestId,
      });
      return reductionsOf.credit(request, requestKey(method.createCreditNote, request), context);
    },
    writeOff(invoiceId: string, minorUnits?: bigint, requestId: string = randomUUID()) {
      const target = { case: "invoiceId" as const, value: invoiceId };
      const amount = minorUnits !== undefined && { amount: euros(minorUnits) };
      const request = create(method.writeOff.input, { target, reason: "Insolvent", requestId, ...amount });
      return reductionsOf.writeOff(request, requestKey(method.writeOff, request), context);
    },
    creditNotes: reductionsOf.creditNotes,
    creditNote: reductionsOf.creditNote,
    close: () => db.pool.end(),
  };
}

export type Replica = ReturnType<typeof openReplica>;

type TaxOfCharge = { code?: string; rate: number; mode: "exclusive" | "inclusive" };

/** A charge or an invoice, and the amount of it that a payment settles; without one, as much as is open. */
type Part = { charge: string; amount?: bigint } | { invoice: string; amount?: bigint };

/** An amount off a charge; without one, all that is left of it. */
type Cut = { charge: string; amount?: bigint };

function toReductions(cuts: Cut[]) {
  return cuts.map(({ charge, amount }) => ({ chargeId: charge, ...(amount !== undefined && { amount: euros(amount) }) }));
}

function toAllocations(parts: Part[]) {
  return parts.map((part) => ({
    target: "charge" in part ? { case: "chargeId" as const, value: part.charge } : { case: "invoiceId" as const, value: part.invoice },
    ...(part.amount !== undefined && { amount: euros(part.amount) }),
  }));
}

function euros(minorUnits: bigint) {
  return create(MoneySchema, { currencyCode: "EUR", minorUnits });
}
