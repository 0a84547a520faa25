/**
 * Cursors and page tokens: the place where a list goes on, sealed. A position may hold a name, and cursors end up in URLs,
 * so they are encrypted and authenticated (AES-256-GCM), not only signed.
 */
import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from "node:crypto";
import { AppError } from "./errors.ts";

export type Cursors = {
  /**
   * Makes a cursor.
   * @param query whatever must be the same for the next page (filters, order, caller); not part of the cursor, but bound to it
   * @param position JSON values that say where the next page begins
   */
  seal(query: unknown, position: unknown[]): string;
  /** @throws AppError invalid_argument naming `field` where the cursor was not made for this query. */
  open(query: unknown, cursor: string, field?: string): unknown[];
};

const nonceBytes = 12;
const tagBytes = 16;

/** @param secret `CURSOR_KEY`, the same in all replicas; with another one, cursors that are under way become invalid. */
export function createCursors(secret: string): Cursors {
  const key = Buffer.from(hkdfSync("sha256", secret, "", "cursor", 32));
  return {
    seal(query, position) {
      const nonce = randomBytes(nonceBytes);
      const cipher = createCipheriv("aes-256-gcm", key, nonce).setAAD(Buffer.from(JSON.stringify(query)));
      const sealed = Buffer.concat([cipher.update(JSON.stringify(position), "utf8"), cipher.final()]);
      return Buffer.concat([nonce, cipher.getAuthTag(), sealed]).toString("base64url");
    },
    open(query, cursor, field = "cursor") {
      try {
        const bytes = Buffer.from(cursor, "base64url");
        const decipher = createDecipheriv("aes-256-gcm", key, bytes.subarray(0, nonceBytes), { authTagLength: tagBytes })
          .setAAD(Buffer.from(JSON.stringify(query)))
          .setAuthTag(bytes.subarray(nonceBytes, nonceBytes + tagBytes));
        const text = Buffer.concat([decipher.update(bytes.subarray(nonceBytes + tagBytes)), decipher.final()]).toString("utf8");
        return JSON.parse(text) as unknown[];
      } catch (error) {
        const message = "is not a cursor of this list with these filters and this order; ask for the first page again";
        throw new AppError("invalid_argument", `${field}: ${message}.`, { cause: error, errors: [{ path: field, message }] });
      }
    },
  };
}
