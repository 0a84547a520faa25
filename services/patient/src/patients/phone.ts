/** Phone numbers, as people write them and as they are stored. */
import { type CountryCode, getCountryCallingCode, parsePhoneNumberFromString } from "libphonenumber-js/min";

/** The area codes of the North American plan, `+1`, begin with 2 to 9. Its parts have these lengths. */
const northAmerican = /^(\+?1[ .-]?)?\(?([2-9]\d{2})\)?[ .-]?(\d{3})[ .-]?(\d{4})$/;
const northAmericanNational = /^[2-9]\d{9}$/;

/**
 * Reads a number; one without country code is read as in `region`. The result is E.164, with an extension as RFC 3966
 * writes it: `+12125550123;ext=5`. Undefined if it cannot be a number there.
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

/** Marks words that are read from their end, so that a search by their beginning finds the last digits. */
function backwards(digits: string): string {
  let word = "~";
  for (let at = digits.length - 1; at >= 0; at--) word += digits[at];
  return word;
}

/** The words that a stored number is found by: with and without its country code, and backwards. */
export function phoneWords(phoneNumber: string): string[] {
  const end = phoneNumber.indexOf(";");
  const digits = end === -1 ? phoneNumber.slice(1) : phoneNumber.slice(1, end);
  const national = digits.startsWith("1") ? digits.slice(1) : parsePhoneNumberFromString(`+${digits}`)?.nationalNumber;
  return [digits, national ?? digits, backwards(digits)];
}

const extension = /(?:;ext=|[\s,]*(?:ext\.?|x|#)\s*)\d{1,7}$/i;
/** The zero that is dialled inside a country only: +41 (0)44. */
const trunkPrefix = /\(0\)/;
/** Fewer digits end too many numbers. */
const minLastDigits = 4;

/**
 * The words by whose beginnings a number is found, however it was typed: as it is, as its last digits, and as the
 * number that it is in `region`. Undefined if the text is no number.
 */
export function phoneSearch(text: string, region: CountryCode): string[] | undefined {
  const typed = text.replace(extension, "").replace(trunkPrefix, "");
  const digits = /^[+\d\s()./-]{4,}$/.test(typed) ? typed.replace(/\D/g, "").replace(/^0+/, "") : "";
  if (digits.length < 3) return undefined;
  const number = readPhone(typed, region)?.slice(1) ?? digits;
  return [...new Set([digits, number, ...(digits.length < minLastDigits ? [] : [backwards(digits)])])];
}
