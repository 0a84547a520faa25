/**
 * Bounds of JSON from callers, counted in its text before it is parsed. A megabyte can have 200,000 fields, and each
 * costs far more than its bytes: objects, checks, errors. Our largest request has a third of the fields.
 */
import { invalidFields } from "./errors.ts";

/** @throws AppError that says the bound. Text that is not JSON is left to the parser. */
export function requireBounds(text: string, { maxFields = 10_000, maxLevels = 32 } = {}): void {
  let [fields, level] = [0, 0];
  for (let at = 0; at < text.length; at++) {
    switch (text[at]) {
      case '"':
        at = endOfText(text, at);
        break;
      case ":":
        fields += 1;
        if (fields > maxFields) throw beyond(`has more than ${maxFields.toLocaleString("en")} fields`);
        break;
      case "{":
      case "[":
        level += 1;
        if (level > maxLevels) throw beyond(`is nested more than ${maxLevels} levels deep`);
        break;
      case "}":
      case "]":
        level -= 1;
    }
  }
}

/** The index of the quote that closes a text. A quote after an odd number of backslashes belongs to the text. */
function endOfText(json: string, start: number): number {
  for (let end = json.indexOf('"', start + 1); end !== -1; end = json.indexOf('"', end + 1)) {
    let backslashes = 0;
    while (json[end - 1 - backslashes] === "\\") backslashes += 1;
    if (backslashes % 2 === 0) return end;
  }
  return json.length;
}

const beyond = (message: string) => invalidFields([{ path: "", message }]);
