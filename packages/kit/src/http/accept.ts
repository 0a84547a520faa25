/** Content negotiation (RFC 9110, 12.5.1). */
import type { Context } from "hono";
import { accepts } from "hono/accepts";

/**
 * The media type that the caller prefers, by the header `Accept`, of those that are offered. It is the first one if the
 * caller takes any, and undefined if they take none of these.
 */
export function preferredType<MediaType extends string>(c: Context, offered: readonly [MediaType, ...MediaType[]]): MediaType | undefined {
  // Hono compares `*/*` as a text only, so it is offered too.
  const any = "*/*";
  const unmatched = c.req.header("accept") ? "none" : any;
  const preferred = accepts(c, { header: "Accept", supports: [...offered, any], default: unmatched });
  return preferred === any ? offered[0] : offered.find((type) => type === preferred);
}
