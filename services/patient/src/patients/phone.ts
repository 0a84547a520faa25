/** Phone numbers, as people write them and as they are stored. */
import { type CountryCode, getCountryCallingCode, parsePhoneNumberFromString } from "libphonenumber-js/min";

/** The area codes of the North American plan, `+1`, begin with 2 to 9. Its parts have these lengths. */
const northAmerican = /^(\+?1[ .-]?)?\(?([2-9]\d{2})\)?[ .-]?(\d{3})[ .-]?(\d{4})$/;
const northAmericanNational = /^[2-9]\d{9}$/;

/**
 * Reads a number; one without country code is read as in `region`. The result is E.164, with an extension as RFC 3966 writes
 * it: `+12125550123;ext=5`. Undefined if it cannot be a number there.
 *
 * One with its country code must be possible, not valid: numbering plans change faster than the library's copy of them.
 * One without must be valid: what is none in `region` was most likely meant for another country.
 */
export function readPhone(given: string, region: CountryCode): string | undefined {
  // Most numbers are written so, and the library is slower.
  const usual = northAmerican.exec(given);
  if (usual && (usual[1] || getCountryCallingCode(region) === "1")) return `+1${usual[2]}${usual[3]}${usual[4]}`;
  // Japanese keyboards have a + and digits of their own.
  const parsed = parsePhoneNumberFromString(given.normalize("NFKC"), region);
  if (!parsed) return undefined;
  const { number, ext, nationalNumber, countryCallingCode } = parsed;
  const isRight =
    countryCallingCode === "1"
      ? northAmericanNational.test(nationalNumber)
      : parsed.isPossible() && (hasCountryCode(given) || parsed.isValid());
  if (!isRight) return undefined;
  return ext === undefined ? number : `${number};ext=${ext}`;
}

export const hasCountryCode = (given: string): boolean => /^(tel:)?\+/i.test(given.normalize("NFKC"));

/** The words that a stored number is found by: with and without its country code. */
export function phoneWords(phoneNumber: string): string[] {
  const number = phoneNumber.replace(/;.*/, "");
  const national = number.startsWith("+1") ? number.slice(2) : parsePhoneNumberFromString(number)?.nationalNumber;
  return [number.slice(1), national ?? number.slice(1)];
}
