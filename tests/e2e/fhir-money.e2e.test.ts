/**
 * Billing as FHIR, through the gateway: what it shows is what billing has, page by page, for whoever may see it there.
 */
import { randomUUID } from "node:crypto";
import type { Bundle, ChargeItem, FhirResource, Invoice, OperationOutcome, PaymentReconciliation } from "fhir/r4.js";
import { afterAll, beforeAll, expect, test } from "vitest";
import { charge, done, get, ids, newUser, platform, rpc, send, startScene, stopScene } from "./scene.ts";

beforeAll(startScene);
afterAll(stopScene);

const fhir = <Resource = Bundle>(path: string, token?: string): Promise<Resource> =>
  done({ ...get(`/fhir/R4/${path}`), ...(token !== undefined && { token }) });
const matches = ({ entry = [] }: Bundle) =>
  entry.filter(({ search }) => search?.mode === "match").map(({ resource }) => resource as FhirResource);
const included = ({ entry = [] }: Bundle) =>
  entry.filter(({ search }) => search?.mode === "include").map(({ resource }) => `${resource?.resourceType}/${resource?.id}`);

async function refused(path: string, token?: string): Promise<[number, string | undefined]> {
  const { status, text, headers } = await send(platform.gatewayUrl, { ...get(`/fhir/R4/${path}`), ...(token !== undefined && { token }) });
  expect(headers.get("content-type")).toBe("application/fhir+json; fhirVersion=4.0");
  return [status, (JSON.parse(text) as OperationOutcome).issue[0]?.code];
}

/** The ids of all pages, following the links. */
async function all(path: string): Promise<(string | undefined)[]> {
  const found: (string | undefined)[] = [];
  for (let next: string | undefined = path; next !== undefined; ) {
    const page: Bundle = await fhir(next);
    found.push(...matches(page).map(({ id }) => id));
    const link = page.link?.find(({ relation }) => relation === "next")?.url;
    next = link?.slice(link.indexOf("/fhir/R4/") + "/fhir/R4/".length);
  }
  return found;
}

test("an account, a charge, an invoice and a payment are read, and refer to each other and to the patient", async () => {
  const account = await fhir<FhirResource>(`Account/${ids.account}`);
  expect(account).toMatchObject({ status: "active", subject: [{ reference: `Patient/${ids.patient}` }] });
  const invoice = await fhir<Invoice>(`Invoice/${ids.invoice}`);
  expect(invoice).toMatchObject({ status: "draft", account: { reference: `Account/${ids.account}` }, lineItem: [{ sequence: 1 }] });
  const chargeId = invoice.lineItem?.[0]?.chargeItemReference?.reference?.slice("ChargeItem/".length) ?? "";
  const item = await fhir<ChargeItem>(`ChargeItem/${chargeId}`);
  expect(item).toMatchObject({ status: "billed", code: { text: "Visit" }, priceOverride: { value: 10, currency: "EUR" } });
  expect(item.supportingInformation).toEqual([{ reference: `Invoice/${ids.invoice}` }]);
  const payment = await fhir<PaymentReconciliation>(`PaymentReconciliation/${ids.payment}`);
  expect(payment.detail).toMatchObject([{ request: { reference: `ChargeItem/${chargeId}` }, amount: { value: 10, currency: "EUR" } }]);
  const { text } = await send(platform.gatewayUrl, get(`/fhir/R4/ChargeItem/${chargeId}`));
  expect(text).toContain('"priceOverride":{"value":10.00,"currency":"EUR"}');
});

test("a search pages by links, narrows by every parameter, and includes what it refers to", async () => {
  const made = [];
  for (let n = 0; n < 4; n += 1) made.unshift((await charge(ids.account)).charge.chargeId);
  const listed = await done(rpc("ListCharges", { accountId: ids.account, pageSize: 200 }));
  const charges = listed.charges.map(({ chargeId }: { chargeId: string }) => chargeId);
  expect(await all(`ChargeItem?patient=Patient/${ids.patient}&_count=2`)).toEqual(charges);
  expect(await all(`ChargeItem?subject=${ids.patient}&account=Account/${ids.account}`)).toEqual(charges);
  expect(await all(`ChargeItem?_id=${made.join(",")},${randomUUID()},x&_count=3`)).toEqual(made);
  expect(await all(`ChargeItem?patient=${ids.patient}&occurrence=lt2026-01-01`)).toEqual([]);
  expect(await all(`ChargeItem?patient=${ids.patient}&entered-date=ge2026&occurrence=ge2026`)).toEqual(charges);
  expect(await all(`ChargeItem?patient=${randomUUID()}`)).toEqual([]);
  const page = await fhir(`ChargeItem?_id=${made[0]}&_include=ChargeItem:subject&_include=ChargeItem:account`);
  expect(page.total).toBe(1);
  expect(included(page)).toEqual([`Patient/${ids.patient}`, `Account/${ids.account}`]);
  expect(await fhir(`ChargeItem?patient=${ids.patient}&_summary=count`)).toMatchObject({ total: charges.length });
  expect(matches(await fhir(`PaymentReconciliation?patient=${ids.patient}&created=ge2026`)).map(({ id }) => id)).toEqual([ids.payment]);
  expect(await all(`PaymentReconciliation?account=${ids.account}&status=cancelled`)).toEqual([]);
});

test("invoices are found by status, number and day, accounts by patient and status", async () => {
  const { invoice } = await done(rpc("CreateInvoice", { accountId: ids.account, issue: true, requestId: randomUUID() }));
  expect(await all(`Invoice?patient=${ids.patient}&status=issued`)).toEqual([invoice.invoiceId]);
  expect(await all(`Invoice?patient=${ids.patient}&status=draft,issued&_count=1`)).toEqual([invoice.invoiceId, ids.invoice]);
  expect(await all(`Invoice?identifier=${invoice.number}`)).toEqual([invoice.invoiceId]);
  expect(await all(`Invoice?identifier=urn:other%7C${invoice.number}`)).toEqual([]);
  expect(await all(`Invoice?patient=${ids.patient}&date=${invoice.issueDate}`)).toEqual([invoice.invoiceId]);
  expect(matches(await fhir(`Invoice?_id=${invoice.invoiceId}`))).toEqual([await fhir(`Invoice/${invoice.invoiceId}`)]);
  expect(await all(`Account?patient=${ids.patient}`)).toEqual([ids.account]);
  expect(await all(`Account?patient=${ids.patient}&status=inactive`)).toEqual([]);
  expect(await all(`Account?_id=${ids.account}&status=active,on-hold`)).toEqual([ids.account]);
});

test("what the caller may not see, and what does not exist, is an OperationOutcome", async () => {
  const { token } = await newUser();
  expect(await refused(`Invoice/${ids.invoice}`, token)).toEqual([403, "forbidden"]);
  expect(await refused(`ChargeItem?patient=${ids.patient}`, token)).toEqual([403, "forbidden"]);
  expect(await refused(`PaymentReconciliation/${ids.payment}`, token)).toEqual([403, "forbidden"]);
  // As with billing itself: of a patient whom they may not see, there is no account.
  expect(await refused(`Account/${ids.account}`, token)).toEqual([404, "not-found"]);
  expect(await all("Account?patient=x")).toEqual([]);
  expect(await refused(`Invoice/${randomUUID()}`)).toEqual([404, "not-found"]);
  expect(await refused("Invoice/x")).toEqual([404, "not-found"]);
  expect(await refused("ChargeItem")).toEqual([400, "invalid"]);
  for (const path of [`ChargeItem?patient=${ids.patient}&_cursor=x`, "Patient?_cursor=x", "Patient/_history?_cursor=x"]) {
    const { status, text } = await send(platform.gatewayUrl, get(`/fhir/R4/${path}`));
    expect([status, text]).toEqual([400, expect.stringContaining('"_cursor: ')]);
  }
  expect(await refused(`ChargeItem?patient=${ids.patient}&occurrence=yesterday`)).toEqual([400, "invalid"]);
  expect(await refused(`Invoice?_sort=date`)).toEqual([400, "invalid"]);
});
