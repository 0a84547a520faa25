/** The conditions and preferences in the headers of a request (http://hl7.org/fhir/R4/http.html). */
import { AppError, invalidFields } from "@pm/kit/errors";
import { matchesIfNoneMatch } from "@pm/kit/http/etag";
import type { RestContext } from "@pm/kit/http/rest";

export const etagOf = (version: string | number): string => `W/"${version}"`;

/** The ETag of a FHIR client, `W/"4"`, as our services have it: `"4"`. */
export function toIfMatch(given: string, path: string): string {
  const version = /^(?:W\/)?"(\d+)"$/.exec(given.trim())?.[1];
  if (version === undefined) throw invalidFields([{ path, message: 'must be the ETag of a version, such as W/"4"' }]);
  return `"${version}"`;
}

export function ifMatchOf(c: RestContext): Record<string, string> {
  const given = c.req.header("if-match");
  return given === undefined ? {} : { "if-match": toIfMatch(given, "If-Match") };
}

/** Whether the caller has this version, by `If-None-Match` or, without it, `If-Modified-Since` (RFC 9110, 13.2.2). */
export function isKnown(c: RestContext, version: string, lastUpdated: string): boolean {
  const ifNoneMatch = c.req.header("if-none-match");
  if (ifNoneMatch !== undefined) return matchesIfNoneMatch(ifNoneMatch, etagOf(version));
  const since = Date.parse(c.req.header("if-modified-since") ?? "");
  // The header has whole seconds.
  return !Number.isNaN(since) && Math.floor(Date.parse(lastUpdated) / 1_000) * 1_000 <= since;
}

const returns = ["minimal", "representation", "OperationOutcome"] as const;
type Handling = "strict" | "lenient";
export type Preferences = { return: (typeof returns)[number]; handling: Handling; isAsync: boolean };

/** The header `Prefer`. What it does not say, or says wrongly, is the default (RFC 7240). */
export function preferencesOf(c: RestContext, handling: Handling = "lenient"): Preferences {
  const given = new Map(
    (c.req.header("prefer") ?? "").split(/[,;]/).map((pair): [string, string] => {
      const [name = "", value = ""] = pair.split("=");
      return [name.trim().toLowerCase(), value.trim().replace(/^"|"$/g, "")];
    }),
  );
  return {
    return: returns.find((one) => one === given.get("return")) ?? "representation",
    handling: (["strict", "lenient"] as const).find((one) => one === given.get("handling")) ?? handling,
    isAsync: given.has("respond-async"),
  };
}

/** The condition of `If-None-Exist`, which may have an address in front of it. */
export const ifNoneExistOf = (given: string) => conditionOf(new URLSearchParams(given.replace(/^[^?=]*\?/, "")));

const part = "[^|,\\u0000-\\u001F\\u007F-\\u009F]+";
export const conditionPattern = `^${part}\\|${part}$`;

/** Which resource a conditional request means: only `identifier=system|value`, because an index decides races. */
export function conditionOf(query: URLSearchParams): { system: string; value: string } {
  const [first, ...others] = [...query].filter(([name]) => !name.startsWith("_"));
  const [name, text = ""] = first ?? [];
  const [system = "", value = ""] = text.split("|");
  if (name === "identifier" && others.length === 0 && new RegExp(conditionPattern).test(text)) return { system, value };
  const message =
    "A condition must be one identifier with its system, ?identifier=system|value: only there an index keeps two requests at once apart.";
  throw new AppError("precondition_failed", message);
}
