/**
 * @patient-management/client as its users have it: packed, installed into an empty folder, in Node and in a browser.
 */
import { existsSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { builtinModules } from "node:module";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { type Platform, startPlatform } from "@pm/stack/platform";
import { run as runIn } from "@pm/stack/programs/child";
import { chromium } from "playwright-core";
import { rolldown } from "rolldown";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { logIn, type PatientAnswer, person } from "../e2e/client.ts";

const source = resolve(import.meta.dirname, "../../packages/client");
const folder = mkdtempSync(join(tmpdir(), "pm-client-"));
const user = join(folder, "user");
const run = (command: string, args: string[]) => runIn(command, args, { cwd: user });

const page = createServer((_, response) => response.setHeader("content-type", "text/html").end("<!doctype html><title>page</title>"));
let origin: string;
let platform: Platform;
let token: string;
let patientId: string;

beforeAll(async () => {
  await new Promise<void>((listening) => page.listen(0, "127.0.0.1", listening));
  origin = `http://127.0.0.1:${(page.address() as AddressInfo).port}`;
  const gateway = { CORS_ORIGINS: JSON.stringify([{ exact: origin }]) };
  platform = await startPlatform({ dataDir: join(folder, "data"), durable: false, gateway });
  const admin = await logIn(platform);
  token = admin.token;
  patientId = ((await admin.send("POST", "/patients", person())).body as PatientAnswer).id;
  const opened = async () => ((await admin.get(`/patients/${patientId}`)).body as PatientAnswer).billing.status;
  await vi.waitFor(async () => expect(await opened()).toBe("active"), { timeout: 30_000, interval: 200 });
  await install();
});
afterAll(async () => {
  await platform?.stop();
  page.close();
  rmSync(folder, { recursive: true, force: true });
});

/** Packs the package, and makes a program of the lines of its README in a folder that has nothing else. */
async function install(): Promise<void> {
  mkdirSync(user);
  await runIn("npm", ["pack", "--silent", "--pack-destination", folder], { cwd: source });
  const [archive = ""] = globSync(join(folder, "*.tgz"));
  writeFileSync(join(user, "package.json"), JSON.stringify({ name: "user", private: true, type: "module" }));
  const { dependencies, devDependencies } = JSON.parse(readFileSync(resolve(import.meta.dirname, "../package.json"), "utf8"));
  const versions: Record<string, string> = { ...dependencies, ...devDependencies };
  const connect = ["@connectrpc/connect", "@connectrpc/connect-web"].map((name) => `${name}@${versions[name]}`);
  await run("npm", ["install", "--silent", "--no-audit", "--no-fund", archive, ...connect]);
  const readme = readFileSync(join(user, "node_modules/@patient-management/client/README.md"), "utf8");
  const lines =
    /^```ts\n([\s\S]*?)^```$/m.exec(readme)?.[1]?.replace("http://localhost:4004", platform.gatewayUrl).trim().split("\n") ?? [];
  expect(lines).toHaveLength(5);
  const [imports, statements] = [lines.slice(0, 3), lines.slice(3)];
  writeFileSync(join(user, "program.ts"), `${imports.join("\n")}\n${more}${statements.join("\n")}\n${rest}`);
  writeFileSync(join(user, "node.ts"), nodeProgram);
  writeFileSync(join(user, "browser.ts"), `import { use } from "./program.ts";\nObject.assign(globalThis, { use });\n`);
}

const more = `import { ConnectError } from "@connectrpc/connect";
import { type BillingAccount, BadRequestSchema } from "@patient-management/client";

export async function use(token: string, patientId: string): Promise<string[]> {
`;
/** What the README says about errors, and a stream. */
const rest = `
  const { accountId, balance } = account as BillingAccount;
  const headers = { authorization: \`Bearer \${token}\` };
  const problem = await billing.getInvoice({ invoiceId: "42" }, { headers }).then(() => undefined, ConnectError.from);
  const violations = problem?.findDetails(BadRequestSchema).flatMap(({ fieldViolations }) => fieldViolations) ?? [];
  for await (const { position } of billing.watchAccount({ accountId, position: 0n }, { headers })) {
    return [accountId, String(balance?.minorUnits), violations.map(({ field }) => field).join(), String(position)];
  }
  return [];
}
`;
const nodeProgram = `import { use } from "./program.ts";
const [token, patientId] = process.argv.slice(2);
console.log(JSON.stringify(await use(token, patientId)));
// The stream of an account has no end, and would keep Node running.
process.exit();
`;
const expected = [expect.stringMatching(/^[0-9a-f-]{36}$/), "0", "invoice_id", "0"];

test("the package holds the modules that it needs, and nothing else", () => {
  const installed = join(user, "node_modules/@patient-management/client");
  const modules = globSync("dist/**/*.js", { cwd: installed }).toSorted();
  expect(modules).toEqual([
    "dist/client.js",
    ...["billing/v1/billing", "billing/v1/events", "common/v1/money", "google/rpc/error_details"].map((name) => `dist/gen/${name}_pb.js`),
  ]);
  expect(globSync("*", { cwd: installed }).toSorted()).toEqual(["README.md", "dist", "package.json"]);
});

test("a user's program passes the strict type checker, and a wrong field does not", async () => {
  const options = "--noEmit --strict --module nodenext --target es2024 --lib es2024,dom --allowImportingTsExtensions".split(" ");
  await run("tsc", [...options, "program.ts"]);
  writeFileSync(
    join(user, "wrong.ts"),
    readFileSync(join(user, "program.ts"), "utf8").replace("accountId, balance", "accountNumber, balance"),
  );
  await expect(run("tsc", [...options, "wrong.ts"])).rejects.toThrow(/accountNumber/);
});

test("the lines of the README get an account in Node, with errors that name their fields, and a stream", async () => {
  expect(JSON.parse(await run(process.execPath, ["node.ts", token, patientId]))).toEqual(expected);
});

test("events cannot be imported", async () => {
  writeFileSync(join(user, "event.js"), `import "@patient-management/client/dist/gen/billing/v1/events_pb.js";`);
  await expect(run(process.execPath, ["event.js"])).rejects.toThrow(/ERR_PACKAGE_PATH_NOT_EXPORTED/);
});

/** A bundle for the browser, as one file, and the modules that it leaves outside. */
async function bundle(): Promise<{ code: string; imports: string[] }> {
  const bundler = await rolldown({ input: join(user, "browser.ts"), platform: "browser" });
  const { output } = await bundler.generate({ format: "esm", codeSplitting: false });
  await bundler.close();
  return output[0];
}

test("a bundle for the browser has nothing of Node in it", async () => {
  const { code, imports } = await bundle();
  expect(imports).toEqual([]);
  const builtIns = builtinModules.filter((name) => code.includes(`require("${name}")`) || code.includes(`"node:${name}"`));
  expect(builtIns).toEqual([]);
});

const executablePath = "/usr/bin/chromium";
const isInstalled = existsSync(executablePath);
const meta = isInstalled ? {} : { skipped: `there is no ${executablePath} (Debian: apt install chromium)` };

test.skipIf(!isInstalled)("a page of a permitted origin does the same through the gateway", { meta }, async () => {
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu", "--no-first-run"] });
  try {
    const tab = await browser.newPage();
    await tab.goto(origin);
    await tab.addScriptTag({ content: (await bundle()).code, type: "module" });
    await tab.waitForFunction("typeof use === 'function'");
    const call = `use(${JSON.stringify(token)}, ${JSON.stringify(patientId)})`;
    expect(await tab.evaluate(call)).toEqual(expected);
  } finally {
    await browser.close();
  }
});
