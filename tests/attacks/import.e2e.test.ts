/**
 * Files that are made to cost as much memory and time as they can. A usual import of the same size is the measure:
 * while such a file is imported, the service must need hardly more memory and answer others as fast.
 */
import { randomUUID } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Platform, startPlatform } from "@pm/stack/platform";
import { afterAll, beforeAll, expect, test } from "vitest";
import { logIn } from "../e2e/client.ts";

const dataDir = mkdtempSync(join(tmpdir(), "pm-attacks-"));
const mebibyte = 1024 * 1024;
let platform: Platform;
let token: string;

beforeAll(async () => {
  platform = await startPlatform({ dataDir, durable: false });
  ({ token } = await logIn(platform));
});
afterAll(async () => {
  await platform?.stop();
  rmSync(dataDir, { recursive: true, force: true });
});

const patientUrl = () => platform.services.patient.url;

/** The most memory that patient-service ever had, in MiB. */
function peakMebibytes(): number {
  const status = readFileSync(`/proc/${platform.services.patient.pid}/status`, "utf8");
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]) / 1024;
}

type Imported = { lines: number; failed: number; answerBytes: number; milliseconds: number[] };

/** Imports pieces of a file, and meanwhile asks again and again whether the service lives. */
async function importWatched(pieces: Iterable<Buffer>): Promise<Imported> {
  let isDone = false;
  const answering = (async () => {
    const milliseconds: number[] = [];
    while (!isDone) {
      const asked = performance.now();
      const answer = await fetch(`${patientUrl()}/health/live`);
      await answer.arrayBuffer();
      milliseconds.push(performance.now() - asked);
      await delay(2);
    }
    return milliseconds;
  })();
  const response = await fetch(`${patientUrl()}/patients:import`, {
    ...{ method: "POST", headers: { authorization: `Bearer ${token}`, "content-type": "application/x-ndjson" } },
    ...{ body: ReadableStream.from(pieces), duplex: "half" as const },
  });
  const text = await response.text();
  isDone = true;
  expect([response.status, text.slice(0, 300)]).toEqual([200, expect.stringContaining('"failed"')]);
  return { ...(JSON.parse(text) as Imported), answerBytes: text.length, milliseconds: await answering };
}

const p99 = (milliseconds: number[]) => milliseconds.toSorted((a, b) => a - b)[Math.floor(milliseconds.length * 0.99)] ?? Number.NaN;

function* usual(lines: number): Generator<Buffer> {
  const run = randomUUID().slice(0, 8);
  const address = { street: "12 Elm Street", city: "Springfield", state: "IL", zipCode: "62701" };
  for (let first = 0; first < lines; first += 200)
    yield Buffer.from(
      Array.from({ length: 200 }, (_, index) => {
        const email = `${run}.${first + index}@example.com`;
        return `${JSON.stringify({ name: `Ada Usual ${first + index}`, email, dateOfBirth: "1985-06-15", address })}\n`;
      }).join(""),
    );
}

const unknown = (count: number, value: string) => `{${Array.from({ length: count }, (_, index) => `"f${index}":${value}`).join()}}\n`;
const files: [string, string][] = [
  ["lines of 5,000 unknown fields", unknown(5_000, "1")],
  ["lines of 1,000 unknown fields, one less than too many", unknown(1_000, "1")],
  ["lines of 21 unknown fields", unknown(21, "1")],
  ["lines of the shortest unknown fields", `{${Array.from("abcdefghijklmnopqrstuvwxyz", (name) => `"${name}":1`).join()}}\n`],
  ["lines of unknown fields with long names", `{${Array.from({ length: 200 }, (_, index) => `"${"x".repeat(290)}${index}":1`).join()}}\n`],
  ["deep lines", `{"address":${"[".repeat(30_000)}${"]".repeat(30_000)}}\n`],
  ["lines that are not JSON", `${"x".repeat(1_000)}\n`],
  ["lines that are too long", `"${"x".repeat(mebibyte)}"\n`],
];
/** All files together have 100 MiB. */
const fileBytes = (100 * mebibyte) / files.length;

function* repeated(line: string, bytes: number): Generator<Buffer> {
  const piece = Buffer.from(line.repeat(Math.ceil((64 * 1024) / line.length)));
  for (let sent = 0; sent < bytes; sent += piece.length) yield piece;
}

test("100 MiB of lines that are made to cost much raise the peak memory by at most 64 MiB and slow nobody down", async () => {
  const asUsual: number[] = [];
  for (let round = 0; round < 4; round++) asUsual.push(...(await importWatched(usual(20_000))).milliseconds);
  const peakBefore = peakMebibytes();
  const underAttack: number[] = [];
  for (const [name, line] of files) {
    const { lines, answerBytes, milliseconds } = await importWatched(repeated(line, fileBytes));
    underAttack.push(...milliseconds);
    const grown = (peakMebibytes() - peakBefore).toFixed(1);
    process.stdout.write(`${name}: ${lines} lines, answer of ${Math.round(answerBytes / 1024)} KiB, peak +${grown} MiB\n`);
    expect(answerBytes, name).toBeLessThan(4 * mebibyte);
  }
  const [usualMs, attackMs] = [p99(asUsual), p99(underAttack)];
  process.stdout.write(`alive within ${attackMs.toFixed(1)} ms at p99; within ${usualMs.toFixed(1)} ms under usual imports\n`);
  expect(peakMebibytes() - peakBefore).toBeLessThanOrEqual(64);
  // Other work of this machine moves both by some milliseconds.
  expect(attackMs).toBeLessThanOrEqual(1.5 * usualMs + 10);
}, 300_000);
