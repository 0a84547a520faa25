import { MessageChannel, type Worker } from "node:worker_threads";
import { createLogger } from "@pm/kit/log";
import { afterEach, expect, test, vi } from "vitest";
import type { WholeDocument } from "./document.ts";
import { createPdfPool, type PdfPool } from "./pdf-pool.ts";
import { renderPdf } from "./pdf-worker.ts";

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

const openPool = () =>
  createPdfPool({ log: createLogger("test", "silent"), lifecycle: { onClose: (_, close) => void closers.push(close) } });
const createdAt = new Date(0);

function documentWith(rows: number): WholeDocument {
  return {
    title: "Invoice",
    stamp: undefined,
    clinic: { name: "Lakeside Clinic", address: "1 Harbour Street", paymentDetails: "" },
    addressee: ["Ada Lovelace"],
    facts: [],
    table: {
      caption: "Services",
      columns: [{ label: "Service", isAmount: false, share: 1 }],
      rows: Array.from({ length: rows }, (_, index) => [`Visit ${index}`]),
    },
    totals: [],
    notes: [],
    fileName: "invoice",
  };
}

const print = async (pool: PdfPool, document: WholeDocument) =>
  Buffer.concat(await Array.fromAsync(await pool.render(document, createdAt)));

test("a document of more than 10,000 lines is refused", async () => {
  await expect(openPool().render(documentWith(10_001), createdAt)).rejects.toMatchObject({
    code: "failed_precondition",
    options: { reason: "DOCUMENT_TOO_LONG" },
  });
});

test("32 documents may wait, the next one is refused, and later there is room again", { timeout: 60_000 }, async () => {
  const pool = openPool();
  const waiting = Array.from({ length: 32 }, () => print(pool, documentWith(1)));
  await new Promise(setImmediate);
  await expect(print(pool, documentWith(1))).rejects.toMatchObject({ code: "resource_exhausted" });
  expect((await waiting[0])?.toString("latin1", 0, 5)).toBe("%PDF-");
  await Promise.all([...waiting, print(pool, documentWith(1))]);
});

test("a document that cannot be made fails alone", async () => {
  const pool = openPool();
  const { table, ...rest } = documentWith(1);
  const broken = { ...rest, table: { ...table, columns: [] } };
  const [first, second, third] = await Promise.allSettled([documentWith(1), broken, documentWith(1)].map((each) => print(pool, each)));
  expect([first?.status, second?.status, third?.status]).toEqual(["fulfilled", "rejected", "fulfilled"]);
});

test("a short document does not wait for a long one, whose pages are made as they are read", { timeout: 60_000 }, async () => {
  const pool = openPool();
  const long = (await pool.render(documentWith(2_000), createdAt))[Symbol.asyncIterator]();
  const pieces = [await long.next(), await long.next()];
  expect((await print(pool, documentWith(1))).toString("latin1")).toMatch(/^%PDF-[\s\S]*%%EOF\s*$/);
  while (!pieces.at(-1)?.done) pieces.push(await long.next());
  expect(pieces.length).toBeGreaterThan(30);
  const whole = Buffer.concat(pieces.flatMap(({ value }) => value ?? []));
  expect(whole.toString("latin1")).toMatch(/^%PDF-[\s\S]*%%EOF\s*$/);
});

test("a reader that goes away leaves its place to the next one", { timeout: 60_000 }, async () => {
  const pool = openPool();
  for (let reader = 0; reader < 40; reader += 1) {
    const pieces = (await pool.render(documentWith(100), createdAt))[Symbol.asyncIterator]();
    await pieces.next();
    await pieces.return?.();
  }
  expect((await print(pool, documentWith(1))).length).toBeGreaterThan(1_000);
});

test("a reader who takes a piece now and then loses their place after five minutes", async () => {
  const timeout = AbortSignal.timeout.bind(AbortSignal);
  // A second for each five minutes; the limit of a piece stays as it is.
  const shortened = vi.spyOn(AbortSignal, "timeout").mockImplementation((ms) => timeout(ms === 300_000 ? 1_000 : ms));
  closers.push(() => shortened.mockRestore());
  const { port1, port2 } = new MessageChannel();
  port1.on("message", () => setTimeout(() => port1.postMessage(true), 300));
  const started = performance.now();
  await expect(renderPdf({ document: documentWith(2_000), createdAt, reader: port2 })).rejects.toThrow("aborted");
  expect(performance.now() - started).toBeLessThan(5_000);
});

test("when the thread crashes, those who wait get an error at once, and the next document is made by a new thread", {
  timeout: 60_000,
}, async () => {
  const threads: Worker[] = [];
  const collect = (thread: Worker) => threads.push(thread);
  process.on("worker", collect);
  closers.push(() => process.off("worker", collect));
  const pool = openPool();
  await print(pool, documentWith(1));
  const waiting = [print(pool, documentWith(200)), print(pool, documentWith(1))];
  await new Promise(setImmediate);
  // As Node reports an uncaught error or an exhausted heap of a thread.
  threads[0]?.emit("error", new Error("out of memory"));
  for (const result of await Promise.allSettled(waiting)) expect(result.status).toBe("rejected");
  expect((await print(pool, documentWith(1))).length).toBeGreaterThan(1_000);
  expect(threads).toHaveLength(2);
});
