/** What an auditor reads through the gateway: the trail of every service, and who saw or changed a patient's data. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { person } from "./client.ts";
import { auditor, charge, deadLetter, done, get, ids, newUser, platform, post, rpc, send, startScene, stopScene, user } from "./scene.ts";

beforeAll(startScene);
afterAll(stopScene);

type Disclosure = { at: string; actor: string; action: string; service: string; id: string };
const asAuditor = (path: string) => ({ ...get(path), token: auditor.token });
const disclosures = async (id: string, search = ""): Promise<{ items: Disclosure[]; nextCursor?: string }> =>
  done(asAuditor(`/patients/${id}/disclosures${search}`));

test("the trail of every service has the same shape", async () => {
  for (const service of ["patient", "billing", "auth", "analytics"]) {
    await done(asAuditor(`/audit/${service}?limit=1`));
    const { items } = await done(asAuditor(`/audit/${service}?actor=${auditor.id}&action=audit.read&limit=1`));
    expect(items).toMatchObject([{ actor: auditor.id, action: "audit.read", subject: "audit", requestId: expect.any(String) }]);
    expect(await done(asAuditor(`/audit/${service}:verify?blocks=100`))).toMatchObject({ intact: true });
    const { status, text } = await send(platform.gatewayUrl, asAuditor(`/audit/${service}:export?format=csv`));
    expect({ status, head: text.split("\n")[0] }).toEqual({
      status: 200,
      head: "id,at,actor,action,subject,requestId,block,blockHash,details",
    });
    expect((await send(platform.gatewayUrl, { ...get(`/audit/${service}`), token: user.token })).status).toBe(403);
  }
});

test("disclosures name who saw or changed a patient's data in patient and billing, and neither refusals nor auditors", async () => {
  const { id } = await done(post("/patients", person()));
  await expect.poll(async () => (await done(get(`/patients/${id}`))).billing.status, { timeout: 10_000 }).toBe("active");
  const { accountId } = (await done(get(`/patients/${id}`))).billing;
  const clerk = await newUser("billing");
  const byClerk = { token: clerk.token };
  await done({ ...rpc("GetBillingAccount", { patientId: id }), ...byClerk });
  await charge(accountId);
  await done({ ...rpc("ListBillingAccounts", {}), ...byClerk });
  await done({ ...rpc("ListTransactions", { accountId }), ...byClerk });
  expect((await send(platform.gatewayUrl, { ...get(`/patients/${id}`), token: user.token })).status).toBe(404);

  const { items } = await disclosures(id);
  const of = (actor: string) => items.filter((item) => item.actor === actor).map(({ service, action }) => `${service} ${action}`);
  expect(of(clerk.id).toSorted()).toEqual(["billing account.read", "billing accounts.listed", "billing transactions.listed"]);
  expect(items.map(({ action }) => action)).toEqual(expect.arrayContaining(["patient.registered", "account.opened", "charge.created"]));
  expect(of(user.id)).toEqual([]);
  expect(of(auditor.id)).toEqual([]);
  expect(items.map(({ at }) => at)).toEqual(
    items
      .map(({ at }) => at)
      .toSorted()
      .reverse(),
  );

  const paged: Disclosure[] = [];
  for (let cursor = ""; ; ) {
    const page = await disclosures(id, `?limit=2${cursor}`);
    paged.push(...page.items);
    if (page.nextCursor === undefined) break;
    cursor = `&cursor=${encodeURIComponent(page.nextCursor)}`;
  }
  expect(paged).toEqual(items);

  const html = await send(platform.gatewayUrl, { ...asAuditor(`/patients/${id}/disclosures`), headers: { accept: "text/html" } });
  expect(html.headers.get("content-security-policy")).toContain("default-src 'none'");
  expect(html.headers.get("content-type")).toBe("text/html; charset=utf-8");
  const csv = await fetch(`${platform.gatewayUrl}/patients/${id}/disclosures?format=csv`, {
    headers: { authorization: `Bearer ${auditor.token}` },
  });
  expect((await csv.text()).trim().split("\n")).toHaveLength(items.length + 1);
});

test("an operator who looks at an event that could not be counted has seen its patient", async () => {
  const { key } = await done(get(`/analytics/dead-letters/${await deadLetter()}`));
  expect((await disclosures(key)).items).toMatchObject([{ service: "analytics", action: "dead-letter.read" }]);
});

test("an export of the journal is a disclosure of each patient whose entries are in it", async () => {
  const today = new Date().toISOString().slice(0, 10);
  const journal = { ...get(`/billing/journal?from=${today}&to=${today}`), token: (await newUser("billing")).token };
  await fetch(`${platform.gatewayUrl}${journal.path}`, { headers: { authorization: `Bearer ${journal.token}` } }).then((answer) =>
    answer.text(),
  );
  expect((await disclosures(ids.patient)).items.map(({ action }) => action)).toContain("journal.page_exported");
});
