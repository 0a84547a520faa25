/** The tour of docs/billing.md, pasted into a shell, at the gateway. */
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, isAbsolute, join } from "node:path";
import { type Platform, startPlatform } from "@pm/stack/platform";
import { installGoPrograms } from "@pm/stack/programs/go-programs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { logIn } from "./client.ts";

const dataDir = mkdtempSync(join(tmpdir(), "pm-tour-"));
let platform: Platform;
beforeAll(async () => {
  platform = await startPlatform({ dataDir, durable: false });
});
afterAll(async () => {
  await platform?.stop();
  rmSync(dataDir, { recursive: true, force: true });
});

test("the tour of billing works when it is pasted", { timeout: 600_000 }, async (context) => {
  const { grpcurl } = await installGoPrograms(["grpcurl"], (line) => process.stderr.write(`${line}\n`));
  if (grpcurl instanceof Error) return context.skip(`grpcurl cannot be had: ${grpcurl.message}`);
  const page = readFileSync(join(import.meta.dirname, "../../docs/billing.md"), "utf8");
  const tour = /^```sh tour\n([\s\S]*?)^```$/m.exec(page)?.[1] ?? "";
  const env = {
    PATH: [...(isAbsolute(grpcurl) ? [dirname(grpcurl)] : []), process.env.PATH].join(delimiter),
    BILLING: new URL(platform.gatewayUrl).host,
    PATIENTS: platform.gatewayUrl,
    TOKEN: (await logIn(platform)).token,
  };
  const shell = spawn("bash", ["-euo", "pipefail", "-c", tour], { env, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  shell.stdout.on("data", (chunk) => (output += chunk));
  shell.stderr.on("data", (chunk) => (output += chunk));
  const code = await new Promise((resolve) => shell.on("close", resolve));
  expect(code, output).toBe(0);
  for (const part of ["billing.v1.BillingService", '"SERVING"', "REFUND_EXCEEDS_PAYMENT", "TRANSACTION_TYPE_REFUND", '"closingBalance"'])
    expect(output).toContain(part);
});
