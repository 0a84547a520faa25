/** The main job, from inside the cluster: a person logs in, creates a patient, billing has its account, analytics has counted it. */
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";

const gateway = process.env.GATEWAY_URL;
const deadline = Date.now() + 120_000;

/** Calls the gateway and gives status and body; a body that is not JSON is given as text. */
async function call(method, path, { token, body } = {}) {
  const response = await fetch(gateway + path, {
    method,
    headers: { "content-type": "application/json", ...(token && { authorization: `Bearer ${token}` }) },
    signal: AbortSignal.timeout(10_000),
    ...(body && { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  try {
    return { status: response.status, body: JSON.parse(text) };
  } catch {
    return { status: response.status, body: text };
  }
}

/** Asks until the answer is there or two minutes after the start are over. */
async function until(what, ask) {
  let last;
  for (;;) {
    try {
      last = await ask();
      if (last.done) return last.value;
    } catch (error) {
      last = error;
    }
    if (Date.now() > deadline) throw new Error(`${what}: not within two minutes; last: ${JSON.stringify(last.value ?? String(last))}`);
    await new Promise((resolve) => setTimeout(resolve, 1_000));
  }
}

const say = (line) => process.stdout.write(`${line}\n`);
const today = new Date().toISOString().slice(0, 10);

const { token, hasFactor } = await until("log in", async () => {
  const password = readFileSync(process.env.ADMIN_PASSWORD_FILE, "utf8").trim();
  const { status, body } = await call("POST", "/auth/login", { body: { email: process.env.ADMIN_EMAIL, password } });
  const hasFactor = status === 401 && body.errors?.[0]?.path === "code";
  return { done: status === 200 || hasFactor, value: body.token || hasFactor ? { token: body.token, hasFactor } : { status, body } };
});
say("logged in");

// Without their second factor, an administrator who must have one has no scopes. This test has no authenticator app.
const scope = hasFactor ? "" : JSON.parse(Buffer.from(token.split(".")[1], "base64url").toString()).scope;
if (!scope) {
  say("the administrator needs a second factor, so the path ends at the log-in");
  process.exit(0);
}

/** Registrations of today in UTC, or undefined while analytics does not answer. */
const registered = async () => {
  const answer = await call("GET", `/analytics/patients?from=${today}&to=${today}&interval=day&timeZone=UTC`, { token });
  return answer.status === 200 ? answer.body.totals.registered : undefined;
};
const before = (await registered()) ?? 0;

const patient = await until("create a patient", async () => {
  const body = { name: "Test Path", email: `${randomUUID()}@example.com`, address: "1 Test Street", dateOfBirth: "1980-01-01" };
  const answer = await call("POST", "/patients", { token, body });
  return { done: answer.status === 201, value: answer.status === 201 ? answer.body : answer };
});
say(`created patient ${patient.id}`);

await until("the patient's billing account", async () => {
  const answer = await call("GET", `/patients/${patient.id}`, { token });
  return { done: answer.body.billing?.status === "active", value: answer };
});
const account = await call("POST", "/billing.v1.BillingService/GetBillingAccount", { token, body: { patientId: patient.id } });
if (account.status !== 200) throw new Error(`billing answered ${account.status}: ${JSON.stringify(account.body)}`);
say("billing has its account");

const asFhir = await call("GET", `/fhir/R4/Patient/${patient.id}`, { token });
if (asFhir.body.id !== patient.id) throw new Error(`FHIR answered ${asFhir.status}: ${JSON.stringify(asFhir.body)}`);
say("FHIR has the same patient");

await until("analytics counts the registration", async () => {
  const after = await registered();
  return { done: after !== undefined && after > before, value: { before, after } };
});
say("analytics has counted it");

await call("DELETE", `/patients/${patient.id}`, { token });
say("the whole path works");
