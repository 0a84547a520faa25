/** Encryption of values at rest and in cookies: AES-256-GCM, with a key for each purpose, derived from one secret. */
import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from "node:crypto";

export type Encryptor = {
  /**
   * Gives nonce, authentication tag and ciphertext, in this order.
   * @param context what the value belongs to, such as the id of its row; it is authenticated, not stored
   */
  encrypt(plaintext: string | Uint8Array, context?: string): Buffer;
  /** @throws Error if the secret, the purpose or the context differs, or if the bytes were changed */
  decrypt(encrypted: Uint8Array, context?: string): string;
  /** The same for what is no text. */
  decryptBytes(encrypted: Uint8Array, context?: string): Buffer;
};

const nonceBytes = 12;
const tagBytes = 16;

/**
 * @param secret at least 32 random bytes, or a text with as much entropy
 * @param purpose names the use; values that were encrypted for another purpose cannot be decrypted
 */
export function createEncryptor(secret: Uint8Array | string, purpose: string): Encryptor {
  const key = Buffer.from(hkdfSync("sha256", secret, "", purpose, 32));

  function decryptBytes(encrypted: Uint8Array, context = ""): Buffer {
    const bytes = Buffer.from(encrypted);
    const decipher = createDecipheriv("aes-256-gcm", key, bytes.subarray(0, nonceBytes), { authTagLength: tagBytes })
      .setAAD(Buffer.from(context))
      .setAuthTag(bytes.subarray(nonceBytes, nonceBytes + tagBytes));
    return Buffer.concat([decipher.update(bytes.subarray(nonceBytes + tagBytes)), decipher.final()]);
  }

  return {
    encrypt(plaintext, context = "") {
      const nonce = randomBytes(nonceBytes);
      const cipher = createCipheriv("aes-256-gcm", key, nonce).setAAD(Buffer.from(context));
      const ciphertext = Buffer.concat([cipher.update(typeof plaintext === "string" ? Buffer.from(plaintext) : plaintext), cipher.final()]);
      return Buffer.concat([nonce, cipher.getAuthTag(), ciphertext]);
    },
    decrypt: (encrypted, context) => decryptBytes(encrypted, context).toString("utf8"),
    decryptBytes,
  };
}
