/**
 * A user who may see no patient asks which of 1,000 e-mail addresses belong to patients, through every door that could
 * tell them. They learn at most twenty.
 */
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Platform, startPlatform } from "@pm/stack/platform";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { type Client, clientOf, logIn, person } from "../e2e/client.ts";

const dataDir = mkdtempSync(join(tmpdir(), "pm-attacks-"));
const ndjson = { "content-type": "application/x-ndjson" };
/** What anybody may learn within an hour. */
const maxTold = 20;
let platform: Platform;
let admin: Client;

beforeAll(async () => {
  platform = await startPlatform({
    dataDir,
    durable: false,
    env: { auth: { SIGNUP: "open", SIGNUP_ROLE: "user" } },
    gateway: { SIGNUP_RATE_PER_SECOND: "1000", LOGIN_RATE_PER_SECOND: "1000" },
  });
  admin = await logIn(platform);
});
afterAll(async () => {
  await platform?.stop();
  rmSync(dataDir, { recursive: true, force: true });
});

async function signUp(): Promise<Client> {
  const credentials = { email: `${randomUUID()}@example.com`, password: "vexing-quartz-jamboree" };
  expect((await clientOf(platform.gatewayUrl).send("POST", "/auth/signup", credentials)).status).toBe(202);
  return logIn(platform, credentials);
}

type Report = { created: number; failed: number; errors: { line: number; errors: { path: string; message: string }[] }[] };

async function importOf(client: Client, emails: string[], query: string): Promise<Report> {
  const file = emails.map((email) => `${JSON.stringify({ ...person(), email })}\n`).join("");
  // A user has two imports at a time; the third one waits.
  const answered = async () => {
    const { status, body, text } = await client.send("POST", `/patients:import${query}`, file, ndjson);
    expect(status, text).toBe(200);
    return body as Report;
  };
  return vi.waitFor(answered, { timeout: 20_000, interval: 20 });
}

/** 1,000 addresses in a random order, of which every second one belongs to a patient of somebody else. */
async function addresses(): Promise<{ all: string[]; taken: Set<string> }> {
  const all = Array.from({ length: 1_000 }, () => `${randomUUID()}@example.com`);
  const taken = all.filter((_, index) => index % 2 === 0);
  expect((await importOf(admin, taken, "")).created).toBe(taken.length);
  return { all: all.sort(), taken: new Set(taken) };
}

/** How a door answers about an address: what an attacker may tell answers apart by. */
type Answers = Map<string, string>;
type Door = (client: Client, emails: string[]) => Promise<Answers>;

/** What is the same for every request: not its id, nor the seconds that pass. */
function answerOf({ status, body }: { status: number; body: unknown }): string {
  if (status < 300) return String(status);
  const { requestId: _, ...problem } = body as { requestId: string };
  return JSON.stringify(problem);
}

async function bySingleRequests(emails: string[], send: (email: string) => ReturnType<Client["send"]>, atOnce: number): Promise<Answers> {
  const answers: Answers = new Map();
  const left = [...emails];
  const ask = async () => {
    for (let email = left.pop(); email !== undefined; email = left.pop()) answers.set(email, answerOf(await send(email)));
  };
  await Promise.all(Array.from({ length: atOnce }, ask));
  return answers;
}

const byFiles = (query: string, linesOfFile: number): Door => {
  return async (client, emails) => {
    const answers: Answers = new Map();
    for (let first = 0; first < emails.length; first += linesOfFile) {
      const lines = emails.slice(first, first + linesOfFile);
      const { created, failed, errors } = await importOf(client, lines, query);
      expect([created + failed, errors.length]).toEqual([lines.length, failed]);
      for (const email of lines) answers.set(email, "created");
      for (const { line, errors: wrong } of errors) answers.set(lines[line - 1] ?? "", JSON.stringify(wrong));
    }
    return answers;
  };
};

const doors: Record<string, Door> = {
  "one dry-run import": byFiles("?dryRun=true", 1_000),
  "dry-run imports of ten lines": byFiles("?dryRun=true", 10),
  imports: byFiles("", 100),
  creates: (client, emails) => bySingleRequests(emails, (email) => client.send("POST", "/patients", { ...person(), email }), 64),
  async patches(client, emails) {
    const { id } = (await client.send("POST", "/patients", person())).body as { id: string };
    return bySingleRequests(emails, (email) => client.send("PATCH", `/patients/${id}`, { email }), 1);
  },
};

/** Addresses of patients that got an answer which no free address got. */
function learned(answers: Answers, taken: Set<string>): string[] {
  const ofFree = new Set([...answers].filter(([email]) => !taken.has(email)).map(([, answer]) => answer));
  return [...answers].filter(([email, answer]) => taken.has(email) && !ofFree.has(answer)).map(([email]) => email);
}

function expectLittleLearned(answers: Answers, taken: Set<string>): void {
  expect(answers.size).toBe(1_000);
  expect(learned(answers, taken).length).toBe(maxTold);
  // Of what was refused, as many belong to patients as of all: nobody can guess better than before.
  const refused = [...answers].filter(([, answer]) => /could not be checked/.test(answer)).map(([email]) => email);
  const share = refused.filter((email) => taken.has(email)).length / refused.length;
  expect(refused.length).toBeGreaterThan(800);
  expect(Math.abs(share - 0.5)).toBeLessThan(0.02);
}

test.each(Object.entries(doors))("1,000 addresses asked through %s: twenty are learned", { timeout: 120_000 }, async (_, door) => {
  const { all, taken } = await addresses();
  expectLittleLearned(await door(await signUp(), all), taken);
});

test("1,000 addresses asked through all doors at once: twenty are learned", { timeout: 120_000 }, async () => {
  const client = await signUp();
  const { all, taken } = await addresses();
  const share = all.length / Object.keys(doors).length;
  const asked = Object.values(doors).map((door, index) => door(client, all.slice(index * share, (index + 1) * share)));
  const answers: Answers = new Map((await Promise.all(asked)).flatMap((some) => [...some]));
  const conflicts = [...answers].filter(([, answer]) => /belongs to another patient/.test(answer));
  expect(conflicts).toHaveLength(maxTold);
  expect(conflicts.every(([email]) => taken.has(email))).toBe(true);
});

test("the time of a refused file does not tell how many of its addresses belong to patients", { timeout: 120_000 }, async () => {
  const client = await signUp();
  const { all, taken } = await addresses();
  await importOf(client, all, "?dryRun=true");
  const files = { taken: [...taken], free: all.filter((email) => !taken.has(email)) };
  const times: Record<keyof typeof files, number[]> = { taken: [], free: [] };
  for (let round = 0; round < 40; round++)
    for (const kind of round % 2 === 0 ? (["taken", "free"] as const) : (["free", "taken"] as const)) {
      const started = performance.now();
      const { created, failed, errors } = await importOf(client, files[kind], "?dryRun=true");
      times[kind].push(performance.now() - started);
      expect([created, failed, errors.length]).toEqual([0, 500, 500]);
    }
  const median = (values: number[]) => values.toSorted((a, b) => a - b)[values.length / 2] ?? Number.NaN;
  const [ofTaken, ofFree] = [median(times.taken), median(times.free)];
  process.stdout.write(`a file of patients' addresses: ${ofTaken.toFixed(1)} ms, one of nobody's: ${ofFree.toFixed(1)} ms\n`);
  // Of each round by itself, because the machine may be slower in some of them.
  const ratios = times.taken.map((ms, round) => ms / (times.free[round] ?? Number.NaN));
  expect(Math.abs(median(ratios) - 1)).toBeLessThan(0.1);
});
