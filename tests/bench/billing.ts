/**
 * Billing over gRPC: charges and payments over many accounts and over one, reads, and statements in a ledger of a
 * million entries.
 */
import { randomUUID } from "node:crypto";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { createServiceTokens } from "@pm/kit/auth/service-tokens";
import { BillingService, PaymentMethod } from "@pm/proto/billing/v1/billing";
import { fillLedger } from "./billing-seed.ts";
import type { Rows } from "./context.ts";

const accountCount = 500;
const hotCallers = 32;

export const rows: Rows = async ({ platform, baselines, token }) => {
  const client = createClient(BillingService, createGrpcTransport({ baseUrl: platform.services.billing.url }));
  const headers = async () => ({ headers: { authorization: `Bearer ${await token()}` } });
  const clientSecret = platform.secrets.clientSecrets.patient;
  const patientToken = createServiceTokens({ authUrl: platform.services.auth.url, clientId: "patient", clientSecret });
  const amount = { currencyCode: "EUR", minorUnits: 1_250n };
  const accounts: string[] = [];
  let hot = "";
  let big: string[] = [];

  /** Accounts of patients whom patient-service does not have are opened by its token alone. */
  const opener = async () => ({ headers: { authorization: `Bearer ${await patientToken()}` } });

  async function openAccounts(): Promise<void> {
    if (accounts.length > 0) return;
    const requests = Array.from({ length: accountCount }, (_, index) => ({
      patientId: randomUUID(),
      name: `Bench Person ${index}`,
      email: `bench-${index}@example.com`,
      requestId: randomUUID(),
    }));
    const answer = await client.batchCreateBillingAccounts({ requests }, await opener());
    accounts.push(...answer.accounts.map((account) => account.accountId));
  }
  async function openHot(): Promise<void> {
    const patient = { patientId: randomUUID(), name: "Everybody", email: "everybody@example.com" };
    hot = (await client.createBillingAccount(patient, await opener())).accountId;
  }
  async function fill(): Promise<void> {
    big = await fillLedger(platform.databases.billing.migrationDatabaseUrl);
  }
  const charge = async (accountId: string) =>
    client.createCharge({ accountId, amount, description: "Consultation", requestId: randomUUID() }, await headers());
  const pay = async (accountId: string) =>
    client.recordPayment({ accountId, amount, method: PaymentMethod.CARD, requestId: randomUUID() }, await headers());
  /** Charges an account and pays that charge by name. The aim compares it with the same without a name. */
  const chargeAndPay = async (accountId: string, isNamed: boolean) => {
    const chargeId = (await charge(accountId)).charge?.chargeId ?? "";
    const target = { case: "chargeId" as const, value: chargeId };
    const request = {
      accountId,
      amount,
      method: PaymentMethod.CARD,
      requestId: randomUUID(),
      ...(isNamed && { allocations: [{ target }] }),
    };
    return client.recordPayment(request, await headers());
  };
  const account = (iteration: number) => accounts[iteration % accounts.length] as string;
  /** A month somewhere in the two years before today. */
  const month = (iteration: number) => {
    const end = new Date(Date.now() - (iteration % 24) * 30 * 86_400_000);
    const start = new Date(end.getTime() - 30 * 86_400_000);
    return { fromDate: start.toISOString().slice(0, 10), toDate: end.toISOString().slice(0, 10) };
  };

  return [
    {
      name: "CreateCharge",
      prepare: openAccounts,
      request: (_, i) => charge(account(i)),
      baseline: baselines.insert,
      aims: { maxCpu: 12 },
    },
    { name: "RecordPayment", prepare: openAccounts, request: (_, i) => pay(account(i)) },
    {
      name: "CreateCharge and RecordPayment that names it",
      prepare: openAccounts,
      request: (_, i) => chargeAndPay(account(i), true),
      baseline: { name: "CreateCharge and RecordPayment", request: (_, i) => chargeAndPay(account(i), false) },
      // Half of it is the charge, so that a payment alone may cost 1.5 times as much.
      aims: { maxCpu: 1.25 },
    },
    {
      name: "GetBillingAccount",
      prepare: openAccounts,
      request: async (_, i) => client.getBillingAccount({ key: { case: "accountId", value: account(i) } }, await headers()),
    },
    { name: "CreateCharge, one hot account", concurrency: hotCallers, prepare: openHot, request: () => charge(hot) },
    { name: "RecordPayment, one hot account", concurrency: hotCallers, request: () => pay(hot) },
    {
      name: "GetStatement of a month, 1,000,000 entries",
      // People read statements, and few at once. What counts is how long one person waits.
      concurrency: 4,
      prepare: fill,
      request: async (_, i) => client.getStatement({ accountId: big[i % big.length] as string, ...month(i) }, await headers()),
      baseline: baselines.query,
      aims: { maxP99: 2 },
    },
    {
      name: "GetStatement of a month, account of 10,000 transactions",
      concurrency: 4,
      request: async (_, i) => client.getStatement({ accountId: big[0] as string, ...month(i) }, await headers()),
    },
  ];
};
