/** The dashboard in a real browser (Debian's Chromium), through the gateway. */
import { randomUUID } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Platform, startPlatform } from "@pm/stack/platform";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Client, logIn, type PatientAnswer, person } from "../e2e/client.ts";

const executablePath = "/usr/bin/chromium";
const isInstalled = existsSync(executablePath);
const meta = isInstalled ? {} : { skipped: `there is no ${executablePath} (Debian: apt install chromium)` };

const args = [
  "no-sandbox",
  "disable-gpu",
  "disable-quic",
  "no-first-run",
  "disable-background-networking",
  "disable-component-update",
  "disable-sync",
];
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

// biome-ignore lint/complexity/noExcessiveLinesPerFunction: a describe block
describe.skipIf(!isInstalled)("the dashboard", { timeout: 120_000, meta }, () => {
  let platform: Platform;
  let admin: Client;
  let browser: Browser;
  const dataDir = mkdtempSync(join(tmpdir(), "pm-dashboard-"));
  const address = () => `${platform.gatewayUrl}/analytics/dashboard`;

  beforeAll(async () => {
    platform = await startPlatform({ dataDir, durable: false });
    admin = await logIn(platform);
    browser = await chromium.launch({ executablePath, args: args.map((flag) => `--${flag}`) });
  });
  afterAll(async () => {
    await browser?.close();
    await platform?.stop();
    rmSync(dataDir, { recursive: true, force: true });
  });

  /** Opens a page in a fresh browser context. `complaints` collects the warnings and errors of its console. */
  async function open(
    options: { javaScript?: boolean; dark?: boolean } = {},
  ): Promise<{ page: Page; context: BrowserContext; complaints: string[] }> {
    const { javaScript = true, dark = false } = options;
    const context = await browser.newContext({
      javaScriptEnabled: javaScript,
      colorScheme: dark ? "dark" : "light",
      viewport: { width: 1280, height: 900 },
    });
    const page = await context.newPage();
    const complaints: string[] = [];
    page.on("console", (message) => {
      if (message.type() === "error" || message.type() === "warning") complaints.push(message.text());
    });
    page.on("pageerror", (error) => complaints.push(error.message));
    return { page, context, complaints };
  }
  async function signIn(page: Page, path = ""): Promise<void> {
    await page.goto(`${address()}${path}`);
    await page.getByLabel("E-mail address").fill(platform.admin.email);
    await page.getByLabel("Password").fill(platform.admin.password);
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByRole("heading", { name: "Patients", exact: true }).waitFor();
  }
  const registeredNow = async (page: Page) => {
    const text = await page.locator("dl.numbers div", { hasText: "Registered" }).first().locator("dd").textContent();
    return Number(text?.trim().split(/\s/)[0]);
  };

  test("shows a wrong password on the form, and the numbers after the right one, in a cookie that scripts cannot read", async () => {
    const { page, context, complaints } = await open();
    await page.goto(address());
    await page.getByLabel("E-mail address").fill(platform.admin.email);
    await page.getByLabel("Password").fill("not the password");
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByRole("alert").filter({ hasText: "is not right" }).waitFor();
    expect(complaints.filter((text) => !text.includes("401"))).toEqual([]);
    await signIn(page);
    const [cookie] = await context.cookies();
    expect(cookie).toMatchObject({ name: "__Host-pm_session", httpOnly: true, sameSite: "Lax", path: "/", secure: true });
    expect(cookie?.domain).toBe(new URL(address()).hostname);
    expect(await page.evaluate("document.cookie")).toBe("");
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByRole("button", { name: "Sign in" }).waitFor();
    expect(await context.cookies()).toEqual([]);
    await context.close();
  });

  test("shows a new patient within five seconds, without being reloaded", async () => {
    const { page, context, complaints } = await open();
    await signIn(page);
    const before = await registeredNow(page);
    const created = await admin.send("POST", "/patients", person());
    expect(created.status, created.text).toBe(201);
    await expect.poll(() => registeredNow(page), { timeout: 5_000, interval: 100 }).toBe(before + 1);
    expect(complaints).toEqual([]);
    await context.close();
  });

  test("keeps the session of a person at localhost by both of its names, and does not keep it alive by itself", async () => {
    for (const host of ["localhost", "127.0.0.1"]) {
      const { page, context } = await open();
      const url = new URL(address());
      url.hostname = host;
      await page.goto(url.href);
      await page.getByLabel("E-mail address").fill(platform.admin.email);
      await page.getByLabel("Password").fill(platform.admin.password);
      await page.getByRole("button", { name: "Sign in" }).click();
      await page.getByRole("heading", { name: "Patients", exact: true }).waitFor();
      expect(await context.cookies()).toMatchObject([{ name: "__Host-pm_session", domain: host, secure: true }]);
      const polls: Record<string, string>[] = [];
      page.on("request", (request) => void polls.push(request.headers()));
      await expect.poll(() => polls.length, { timeout: 10_000 }).toBeGreaterThan(0);
      expect(await (await page.waitForRequest(url.href)).headerValue("sec-fetch-dest")).toBe("empty");
      await context.close();
    }
  });

  test("works without JavaScript: signing in and choosing a period", async () => {
    const { page, context } = await open({ javaScript: false });
    await signIn(page, "?from=2026-01-01&to=2026-03-31&interval=month");
    expect(page.url()).toContain("from=2026-01-01");
    await page.getByLabel("Time zone").fill("Asia/Kolkata");
    await page.locator("select[name=interval]").selectOption("week");
    await page.getByRole("button", { name: "Show" }).click();
    expect(await page.title()).toBe("Clinic dashboard, 2026-01-01 to 2026-03-31");
    await page.getByText("2026-01-01 to 2026-03-31, Asia/Kolkata, by week").waitFor();
    await page.getByText("Table: Registrations per week").click();
    expect(await page.getByRole("rowheader", { name: "2026-03-30" }).count()).toBeGreaterThan(0);
    await context.close();
  });

  test.each([false, true])("has no accessibility violation that axe-core knows of (dark: %s)", async (dark) => {
    const { page, context } = await open({ dark });
    const check = async () => {
      // The page's policy only allows its own scripts, so evaluate the checker from outside.
      const violations = await page.evaluate(
        `(async () => { ${axe}; return (await axe.run()).violations.map((v) => v.id + ": " + v.nodes.map((n) => n.html).join(" | ")) })()`,
      );
      expect(violations).toEqual([]);
    };
    await page.goto(address());
    await check();
    await signIn(page);
    await check();
    await context.close();
  });

  test("is under 100 kB, does not shift while it loads, and prints to one page", async () => {
    const { page, context } = await open();
    await signIn(page, "?interval=day");
    await page.reload();
    // Passed as text, because it runs in the browser and this project does not have the browser's types.
    const { bytes, shift } = await page.evaluate<{ bytes: number; shift: number }>(`(async () => {
      const entries = [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")];
      const shift = await new Promise((resolve) => {
        let sum = 0;
        new PerformanceObserver((list) => { for (const entry of list.getEntries()) sum += entry.value; }).observe({ type: "layout-shift", buffered: true });
        setTimeout(() => resolve(sum), 500);
      });
      return { bytes: entries.reduce((sum, entry) => sum + entry.decodedBodySize, 0), shift };
    })()`);
    expect(bytes).toBeLessThan(100_000);
    expect(shift).toBeLessThan(0.01);
    const pdf = (await page.pdf({ preferCSSPageSize: true })).toString("latin1");
    expect(pdf.match(/\/Type\s*\/Page\b/g)).toHaveLength(1);
    await context.close();
  });

  test("a year by week is under 100 kB too, and amounts of ten digits fit on a phone", async () => {
    const created = (await admin.send("POST", "/patients", person())).body as PatientAnswer;
    const charge = { accountId: created.billing.accountId, amount: { currencyCode: "EUR", minorUnits: "123456789012" } };
    const request = { ...charge, description: "A wing of the building", requestId: randomUUID() };
    expect((await admin.send("POST", "/billing.v1.BillingService/CreateCharge", request)).status).toBe(200);
    const { page, context } = await open();
    const dayMs = 24 * 60 * 60 * 1_000;
    const [from, to] = [Date.now() - 364 * dayMs, Date.now()].map((at) => new Date(at).toISOString().slice(0, 10));
    await signIn(page, `?interval=week&from=${from}&to=${to}`);
    await expect.poll(() => page.locator("dl.numbers").nth(1).textContent(), { timeout: 10_000 }).toContain("1,234,567,890.12");
    expect(Buffer.byteLength(await page.content())).toBeLessThan(90_000);
    await page.setViewportSize({ width: 360, height: 740 });
    expect(await page.evaluate("document.documentElement.scrollWidth")).toBeLessThanOrEqual(360);
    await context.close();
  });

  test("refuses a form that another site sends", async () => {
    const body = new URLSearchParams({ email: platform.admin.email, password: platform.admin.password });
    for (const headers of [{ origin: "https://elsewhere.example" }, { "sec-fetch-site": "cross-site" }, {}] as Record<string, string>[]) {
      const response = await fetch(`${address()}/login`, { method: "POST", body, headers, redirect: "manual" });
      expect([response.status, response.headers.get("set-cookie")]).toEqual([403, null]);
    }
  });

  test("what analytics has counted is what patient and billing have", async () => {
    await expect
      .poll(async () => (await admin.get("/analytics/consistency")).body, { timeout: 30_000, interval: 500 })
      .toMatchObject({ drift: 0, settled: true, lag: 0, deadLetters: 0, patientsWithoutAccount: { count: 0 } });
  });
});
