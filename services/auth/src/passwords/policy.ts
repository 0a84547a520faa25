/** Which passwords users may choose: long enough, not common, and not made of the account's name or address. */
import { invalidFields } from "@pm/kit/errors";
import popularPasswords from "popular-passwords" with { type: "json" };
import { toOpaqueString } from "./opaque-string.ts";

export const minPasswordLength = 8;
export const maxPasswordLength = 128;

/** 41,622 common passwords of at least eight characters, in lower case. Attackers try them first. */
const commonPasswords = new Set(popularPasswords);

/** Words that suit a clinic, which attackers try too (docs/asvs.md, 6.1.2). */
const contextWords = [
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
/** How many characters a password must have besides such words. */
const minOtherCharacters = 4;

/**
 * @param about the account's e-mail address and the name of its owner
 * @throws AppError invalid_argument that says what is wrong, without the word that was found
 */
export function checkNewPassword(password: string, about: string[], path = "password"): void {
  const refuse = (message: string): never => {
    throw invalidFields([{ path, message }]);
  };
  const text = toOpaqueString(password);
  const length = [...text].length;
  if (length < minPasswordLength) refuse(`must have at least ${minPasswordLength} characters`);
  if (length > maxPasswordLength) refuse(`must have at most ${maxPasswordLength} characters`);
  const lower = text.toLowerCase();
  if (commonPasswords.has(lower)) refuse("is one of the passwords that attackers try first; choose another one");
  const words = [...about.flatMap((one) => one.toLowerCase().split(/[^\p{L}\p{N}]+/u)), ...contextWords].filter((word) => word.length >= 4);
  const rest = words.sort((a, b) => b.length - a.length).reduce((left, word) => left.replaceAll(word, ""), lower);
  if (rest !== lower && [...rest].length < minOtherCharacters)
    refuse("is little more than the name, the address or a word such as hospital; choose another one");
}
