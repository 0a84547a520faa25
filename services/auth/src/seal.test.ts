import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";
import { createSealer } from "./seal.ts";

const secret = randomBytes(32);

test("what is sealed opens again, with the same secret, purpose and context only", () => {
  fc.assert(
    fc.property(fc.string({ unit: "grapheme" }), fc.string(), (text, context) => {
      const sealed = createSealer(secret, "a").seal(text, context);
      expect(createSealer(secret, "a").open(sealed, context)).toBe(text);
      expect(() => createSealer(secret, "b").open(sealed, context)).toThrow();
      expect(() => createSealer(randomBytes(32), "a").open(sealed, context)).toThrow();
      expect(() => createSealer(secret, "a").open(sealed, `${context}.`)).toThrow();
    }),
    { numRuns: 50 },
  );
});

test("a changed bit does not open", () => {
  const sealer = createSealer(secret, "a");
  const sealed = sealer.seal("a text", "context");
  for (let i = 0; i < sealed.length; i++) {
    const changed = Buffer.from(sealed);
    changed[i] = (changed[i] ?? 0) ^ 1;
    expect(() => sealer.open(changed, "context")).toThrow();
  }
});

test("the same text is never sealed the same way twice", () => {
  const sealer = createSealer(secret, "a");
  expect(new Set(Array.from({ length: 100 }, () => sealer.seal("a text", "c").toString("hex"))).size).toBe(100);
});
