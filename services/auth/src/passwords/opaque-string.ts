/**
 * The same password in the spelling of every keyboard: a Mac may type "ë" as two characters, where Windows types one.
 * These are the mappings of RFC 8265, section 4.2 (OpaqueString): spaces become the ASCII space, and the text has the
 * normal form NFC. What that profile forbids, such as control characters, stays as it is.
 */
export function toOpaqueString(password: string): string {
  return password.replace(/\p{Zs}/gu, " ").normalize("NFC");
}
