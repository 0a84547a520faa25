/** docs/billing.md agrees with the proto files, its tour works, and every method has an example request. */
import { spawn } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { delimiter, dirname, isAbsolute, join } from "node:path";
import { BillingService } from "@pm/proto/billing/v1/billing";
import { installGoPrograms } from "@pm/stack/programs/go-programs";
import { freePort } from "@pm/stack/programs/ports";
import { startService } from "@pm/stack/services";
import { testDatabase } from "@pm/stack/testing";
import { expect, test } from "vitest";
import { renderReference } from "./reference.ts";
import { environmentFor, startBilling, startIssuer } from "./testing.ts";

const root = join(import.meta.dirname, "../../..");
const page = join(root, "docs/billing.md");
const read = () => readFileSync(page, "utf8");

test("the reference is what the comments of the proto file say", () => {
  const [text, marker = ""] = [read(), /^<!-- Made from .*-->$/m.exec(read())?.[0]];
  const current = `${text.slice(0, text.indexOf(marker) + marker.length)}\n\n${renderReference("billing/v1/billing.proto")}\n`;
  if (process.env.UPDATE === "1") writeFileSync(page, current);
  expect(read(), "run it with UPDATE=1").toBe(current);
  expect(current).not.toContain("undefined");
});

test("the tour works when it is pasted", { timeout: 600_000 }, async (context) => {
  const say = (line: string) => process.stderr.write(`${line}\n`);
  const { grpcurl } = await installGoPrograms(["grpcurl"], say);
  if (grpcurl instanceof Error) return context.skip(`grpcurl cannot be had: ${grpcurl.message}`);
  const tour = /^```sh tour\n([\s\S]*?)^```$/m.exec(read())?.[1] ?? "";
  const [database, patientDatabase, issuer] = await Promise.all([testDatabase("billing"), testDatabase("patient"), startIssuer()]);
  const port = await freePort();
  const billing = await startBilling({ databaseUrl: database.databaseUrl, issuer, patientUrl: `http://127.0.0.1:${port}` });
  const patientEnv = { ...environmentFor(issuer), DATABASE_URL: patientDatabase.databaseUrl, BILLING_URL: billing.url };
  const patients = await startService({ name: "patient", port, env: patientEnv });
  const env = {
    PATH: [...(isAbsolute(grpcurl) ? [dirname(grpcurl)] : []), process.env.PATH].join(delimiter),
    BILLING: new URL(billing.url).host,
    PATIENTS: patients.url,
    TOKEN: (await issuer.person("admin")).slice("Bearer ".length),
  };
  // Not spawnSync, because this process serves the issuer's keys meanwhile.
  const shell = spawn("bash", ["-euo", "pipefail", "-c", tour], { env, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  shell.stdout.on("data", (chunk) => (output += chunk));
  shell.stderr.on("data", (chunk) => (output += chunk));
  const code = await new Promise((resolve) => shell.on("close", resolve));
  await Promise.all([billing.stop(), patients.stop()]);
  await issuer.close();
  await Promise.all([database.drop(), patientDatabase.drop()]);
  expect(code, output).toBe(0);
  for (const part of ["billing.v1.BillingService", "REFUND_EXCEEDS_PAYMENT", "TRANSACTION_TYPE_REFUND", '"closingBalance"'])
    expect(output).toContain(part);
});

test("every method has an example request", () => {
  const folder = join(root, "grpc-requests");
  const text = readdirSync(folder)
    .map((file) => readFileSync(join(folder, file), "utf8"))
    .join("\n");
  for (const { name } of BillingService.methods) expect(text).toContain(`billing.v1.BillingService/${name}\n`);
});
