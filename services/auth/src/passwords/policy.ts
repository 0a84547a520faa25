/** Which passwords may be chosen: long enough, not common, not made of what everybody knows about the account. */
import { invalidFields } from "@pm/kit/errors";
import popularPasswords from "popular-passwords" with { type: "json" };

export const minPasswordLength = 8;
export const maxPasswordLength = 128;

/** 41,622 passwords of at least eight characters that people choose and attackers try first, in lower case. */
const common = new Set(popularPasswords);

/** Words of this place, which attackers try too (docs/asvs.md, 6.1.2). */
export const contextWords = [
  "patientmanagement",
  "patients",
  "patient",
  "management",
  "hospital",
  "clinic",
  "medical",
  "doctor",
  "nurse",
  "billing",
  "health",
  "password",
  "admin",
  "welcome",
  "login",
];
/** What has to be left of a password without such words. */
const minOtherCharacters = 4;

/**
 * @param about what is known of the account: its address and the name of its owner
 * @throws AppError invalid_argument that says what is wrong, and not which word it was
 */
export function checkNewPassword(password: string, about: string[], path = "password"): void {
  const refuse = (message: string): never => {
    throw invalidFields([{ path, message }]);
  };
  const length = [...password].length;
  if (length < minPasswordLength) refuse(`must have at least ${minPasswordLength} characters`);
  if (length > maxPasswordLength) refuse(`must have at most ${maxPasswordLength} characters`);
  const lower = password.toLowerCase();
  if (common.has(lower)) refuse("is one of the passwords that attackers try first; choose another one");
  const words = [...about.flatMap((text) => text.toLowerCase().split(/[^\p{L}\p{N}]+/u)), ...contextWords].filter(
    (word) => word.length >= 4,
  );
  const rest = words.sort((a, b) => b.length - a.length).reduce((text, word) => text.replaceAll(word, ""), lower);
  if (rest !== lower && [...rest].length < minOtherCharacters)
    refuse("is little more than the name, the address or a word of this place; choose another one");
}
