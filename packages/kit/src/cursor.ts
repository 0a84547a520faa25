/**
 * Cursors and page tokens: the position at which the next page of a list begins, encrypted. A position may contain a
 * name, and cursors end up in URLs, so a signature would not be enough.
 */
import { deflateSync, inflateSync } from "node:zlib";
import { createEncryptor } from "./encryption.ts";
import { AppError } from "./errors.ts";

/** What a cursor consists of, for the routes that take one. */
export const cursorPattern = /^[A-Za-z0-9_-]+$/;

export type Cursors = {
  /**
   * Makes a cursor.
   * @param query whatever must be the same for the next page (filters, order, caller); bound to the cursor, not in it
   * @param position JSON values that say where the next page begins
   */
  seal(query: unknown, position: unknown[]): string;
  /** @throws AppError invalid_argument naming `field` if the cursor was not made for this query. */
  open(query: unknown, cursor: string, field?: string): unknown[];
};

/** A longer position is compressed, because cursors end up in URLs. */
const maxPlain = 1_000;
/** What a compressed position begins with. A plain one, which is a list, begins with a bracket. */
const compressed = 0x78;

const toBytes = (text: string): string | Buffer => (text.length > maxPlain ? deflateSync(text, { level: 9 }) : text);
const fromBytes = (bytes: Buffer): string => (bytes[0] === compressed ? inflateSync(bytes) : bytes).toString("utf8");

/** @param secret `CURSOR_KEY`, the same in all replicas. If it changes, cursors in use become invalid. */
export function createCursors(secret: string): Cursors {
  const encryptor = createEncryptor(secret, "cursor");
  return {
    seal: (query, position) => encryptor.encrypt(toBytes(JSON.stringify(position)), JSON.stringify(query)).toString("base64url"),
    open(query, cursor, field = "cursor") {
      try {
        return JSON.parse(fromBytes(encryptor.decryptBytes(Buffer.from(cursor, "base64url"), JSON.stringify(query)))) as unknown[];
      } catch (error) {
        const message = "is not a cursor of this list with these filters and this order; ask for the first page again";
        throw new AppError("invalid_argument", `${field}: ${message}.`, { cause: error, errors: [{ path: field, message }] });
      }
    },
  };
}
