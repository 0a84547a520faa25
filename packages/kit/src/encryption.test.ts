import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";
import { createEncryptor } from "./encryption.ts";

const secret = randomBytes(32);

test("a value is decrypted with the same secret, purpose and context only", () => {
  fc.assert(
    fc.property(fc.string({ unit: "grapheme" }), fc.string(), (text, context) => {
      const encrypted = createEncryptor(secret, "a").encrypt(text, context);
      expect(createEncryptor(secret, "a").decrypt(encrypted, context)).toBe(text);
      expect(() => createEncryptor(secret, "b").decrypt(encrypted, context)).toThrow();
      expect(() => createEncryptor(randomBytes(32), "a").decrypt(encrypted, context)).toThrow();
      expect(() => createEncryptor(secret, "a").decrypt(encrypted, `${context}.`)).toThrow();
    }),
    { numRuns: 50 },
  );
});

test("a value with a changed bit is not decrypted", () => {
  const encryptor = createEncryptor(secret, "a");
  const encrypted = encryptor.encrypt("a text", "context");
  for (let i = 0; i < encrypted.length; i++) {
    const changed = Buffer.from(encrypted);
    changed[i] = (changed[i] ?? 0) ^ 1;
    expect(() => encryptor.decrypt(changed, "context")).toThrow();
  }
});

test("the same text is never encrypted the same way twice", () => {
  const encryptor = createEncryptor(secret, "a");
  expect(new Set(Array.from({ length: 100 }, () => encryptor.encrypt("a text", "c").toString("hex"))).size).toBe(100);
});

test("values that are stored already, and cookies that browsers hold, are still decrypted", () => {
  const stored = Buffer.from("nuCR7jFZYhmPKg_swElXvTRXZ6YAi5IWoHKGfW8srzbKmnlN5bdLDHs", "base64url");
  expect(createEncryptor(Buffer.alloc(32, 7), "signing keys").decrypt(stored, "key-1")).toBe("a private key");
  const cookie = Buffer.from("mHilCLJpjFWeJCG1uZusa4c7gX9SxUO_hTKGAMkBV-XFTA", "base64url");
  expect(createEncryptor("a secret of the dashboard", "analytics dashboard cookie").decrypt(cookie)).toBe("tokens");
});
