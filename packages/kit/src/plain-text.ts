/** Text that people read has to show what it is. Text that hides or turns itself around passes for another one. */

/** Most texts; the rules below are slower. */
const ascii = /^[!-~][ -~]*$/;
/** Control characters, and halves of surrogate pairs, which are not Unicode. Postgres refuses some of them. */
const control = /[\p{Cc}\p{Cs}]/u;
/** Bidirectional embeddings, overrides and isolates. Names in Arabic or Hebrew need none of them. */
const turning = /[\u202a-\u202e\u2066-\u2069]/;
/**
 * Anything but spaces and what no font draws: zero-width characters, fillers, tags, variation selectors. Within a text
 * they are needed: emoji, Persian and Hindi join by them. Some blank characters are none by their Unicode properties.
 */
const visible = /[^\p{White_Space}\p{Default_Ignorable_Code_Point}\u2800\ufff9-\ufffb\u{16fe4}\u{1d159}]/u;

/** Tells a caller what is wrong with their text; undefined if nothing is. Whether it may be empty is another rule. */
export function faultOfText(text: string): string | undefined {
  if (text === "" || ascii.test(text)) return undefined;
  if (control.test(text)) return "must not have control characters";
  if (turning.test(text)) return "must not have characters that turn the direction of text (U+202A to U+202E, U+2066 to U+2069)";
  return visible.test(text) ? undefined : "must have a visible character";
}

/**
 * The same without the slow rules, for documents: a text with a visible character. Written so that regular expressions
 * of other languages read it too, so it lacks the characters above U+FFFF.
 */
export const plainTextPattern = (() => {
  const refused = "\\u0000-\\u001F\\u007F-\\u009F\\u202A-\\u202E\\u2066-\\u2069";
  const blank =
    "\\s\\u00AD\\u034F\\u061C\\u115F\\u1160\\u17B4\\u17B5\\u180B-\\u180F\\u200B-\\u200F\\u2060-\\u206F\\u2800\\u3164\\uFE00-\\uFE0F\\uFEFF\\uFFA0\\uFFF0-\\uFFFB";
  return `^[^${refused}]*[^${refused}${blank}][^${refused}]*$`;
})();
