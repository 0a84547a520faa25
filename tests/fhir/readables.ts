/** What can be read as FHIR beside patients, with data in it: made by our own APIs, and how FHIR finds it. */
import { randomUUID } from "node:crypto";
import type { Platform } from "@pm/stack/platform";
import { vi } from "vitest";
import { logIn, person } from "../e2e/client.ts";

type Readable = { type: string; query: string; token: string };

/** By type: a search that finds something, and the token of somebody who may. */
export async function makeReadables(platform: Platform): Promise<Readable[]> {
  const admin = await logIn(platform);
  async function post<Body>(path: string, body: object): Promise<Body> {
    const { status, text, body: answer } = await admin.send("POST", path, body);
    if (status >= 300) throw new Error(`POST ${path} answered ${status}: ${text}`);
    return answer as Body;
  }
  const rpc = <Body>(name: string, body: object) =>
    post<Body>(`/billing.v1.BillingService/${name}`, { ...body, ...(!name.startsWith("Get") && { requestId: randomUUID() }) });
  const contacts = [{ name: "Ralph King", relationship: "son", phone: "+12175550199" }];
  // US Core wants a part of a name and a gender of everybody; docs/fhir.md says what becomes of records without them.
  const ada = { ...person(), name: undefined, firstName: "Ada", lastName: "King", sex: "female", contacts };
  const { id } = await post<{ id: string }>("/patients", ada);
  const opened = () => rpc<{ account: { accountId: string } }>("GetBillingAccount", { patientId: id });
  const { accountId } = (await vi.waitFor(opened, { timeout: 20_000, interval: 200 })).account;
  const amount = { currencyCode: "EUR", minorUnits: "1000" };
  await rpc("CreateCharge", { accountId, amount, description: "Visit" });
  await rpc("RecordPayment", { accountId, amount, method: "PAYMENT_METHOD_CARD" });
  await rpc("CreateInvoice", { accountId, issue: true });
  await post("/auth/teams", { name: "Ward 3" });
  const credentials = { email: `auditor.${randomUUID()}@example.com`, password: "a long enough passphrase" };
  const { id: userId } = await post<{ id: string }>("/auth/users", { ...credentials, roles: ["auditor"] });
  const [{ token }, auditor] = [admin, (await logIn(platform, credentials)).token];
  const ofPatient = ["Account", "ChargeItem", "Invoice", "PaymentReconciliation", "RelatedPerson", "Provenance"];
  return [
    ...ofPatient.map((type) => ({ type, query: `patient=${id}`, token })),
    { type: "Practitioner", query: `_id=${userId}`, token },
    { type: "Group", query: "_count=5", token },
    { type: "AuditEvent", query: `patient=${id}`, token: auditor },
  ];
}
