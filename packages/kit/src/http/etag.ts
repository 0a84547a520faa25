/** Entity tags and the conditions on them (RFC 9110, 8.8.3 and 13.1). */

const entityTag = '(?:W/)?"[!#-~]*"';
/** What `If-Match` may say (RFC 9110, 13.1.1): entity tags, or `*`. */
export const entityTags = new RegExp(String.raw`^(?:\*|${entityTag}(?:[ \t]*,[ \t]*${entityTag})*)$`);

/**
 * Whether a caller has the version with this ETag already, by their header `If-None-Match`. The comparison is weak (RFC
 * 9110, 13.1.2), because caches and compressing proxies make a strong tag weak: `W/"x"` and `"x"` match.
 */
export function matchesIfNoneMatch(ifNoneMatch: string | undefined, etag: string): boolean {
  return ifNoneMatch !== undefined && matchesIfMatch(ifNoneMatch, etag);
}

/**
 * Whether the header `If-Match` names this ETag. RFC 9110 compares strongly here. Ours compares weakly too, because
 * clients of FHIR send `W/"4"`, and each version has one representation, so its weak tag means the same.
 */
export function matchesIfMatch(ifMatch: string, etag: string): boolean {
  if (ifMatch.trim() === "*") return true;
  // A tag may contain a comma, so the header is not split at commas.
  const known: string[] = ifMatch.match(/"[^"]*"/g) ?? [];
  return known.includes(etag.replace(/^W\//, ""));
}
