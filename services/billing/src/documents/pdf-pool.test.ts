import type { Worker } from "node:worker_threads";
import { createLogger } from "@pm/kit/log";
import { afterEach, expect, test } from "vitest";
import type { PrintableDocument } from "./document.ts";
import { createPdfPool } from "./pdf-pool.ts";

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

const openPool = () =>
  createPdfPool({ log: createLogger("test", "silent"), lifecycle: { onClose: (_, close) => void closers.push(close) } });
const createdAt = new Date(0);

function documentWith(rows: number): PrintableDocument {
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

test("a document of more than 1,000 lines is refused", async () => {
  await expect(openPool().render(documentWith(1_001), createdAt)).rejects.toMatchObject({
    code: "failed_precondition",
    options: { reason: "DOCUMENT_TOO_LONG" },
  });
});

test("32 documents may wait, the next one is refused, and later there is room again", { timeout: 60_000 }, async () => {
  const pool = openPool();
  const waiting = Array.from({ length: 32 }, () => pool.render(documentWith(1), createdAt));
  await expect(pool.render(documentWith(1), createdAt)).rejects.toMatchObject({ code: "resource_exhausted" });
  expect(Buffer.from((await waiting[0]) ?? []).toString("latin1", 0, 5)).toBe("%PDF-");
  const next = pool.render(documentWith(1), createdAt);
  // If it were refused, that would be at once.
  await Promise.race([next, waiting[1]]);
  // The others end with the pool.
  void Promise.allSettled([...waiting, next]);
});

test("a document that cannot be made fails alone", async () => {
  const pool = openPool();
  const { table, ...rest } = documentWith(1);
  const broken = { ...rest, table: { ...table, columns: [] } };
  const [first, second, third] = await Promise.allSettled(
    [documentWith(1), broken, documentWith(1)].map((each) => pool.render(each, createdAt)),
  );
  expect([first?.status, second?.status, third?.status]).toEqual(["fulfilled", "rejected", "fulfilled"]);
});

test("when the thread crashes, those who wait get an error at once, and the next document is made by a new thread", {
  timeout: 60_000,
}, async () => {
  const threads: Worker[] = [];
  const collect = (thread: Worker) => threads.push(thread);
  process.on("worker", collect);
  closers.push(() => process.off("worker", collect));
  const pool = openPool();
  await pool.render(documentWith(1), createdAt);
  const waiting = [pool.render(documentWith(200), createdAt), pool.render(documentWith(1), createdAt)];
  // As Node reports an uncaught error or an exhausted heap of a thread.
  threads[0]?.emit("error", new Error("out of memory"));
  for (const result of await Promise.allSettled(waiting)) expect(result.status).toBe("rejected");
  expect((await pool.render(documentWith(1), createdAt)).length).toBeGreaterThan(1_000);
  expect(threads).toHaveLength(2);
});
