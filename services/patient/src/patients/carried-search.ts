/** Cursors that carry their search, so that the next page is asked for by the cursor alone. */
import type { Cursors } from "@pm/kit/cursor";
import { AppError, invalidFields } from "@pm/kit/errors";

/** A cursor that carries its search begins so. No other cursor has a dot. */
const prefix = "s.";
/** It fits into a URL of any proxy. */
export const maxCarried = 6_000;

const bindingOf = (actorId: string) => ["search that is carried", actorId];

type Opened<Asked> = { asked: Asked; cursor: string | undefined; isCarried: boolean };

/**
 * The search of a request and the cursor of its list: from a cursor that carries both, or as they were sent.
 * @throws AppError invalid_argument if the cursor is not this caller's, or a search was sent beside the one it carries
 */
export function openCarried<Asked extends object>(
  cursors: Cursors,
  actorId: string,
  { asked: sent, cursor }: { asked: Asked; cursor: string | undefined },
): Opened<Asked> {
  if (!cursor?.startsWith(prefix)) return { asked: sent, cursor, isCarried: false };
  const [asked, place] = cursors.open(bindingOf(actorId), cursor.slice(prefix.length)) as [Asked, string];
  const given = Object.keys(sent);
  if (given.length > 0) throw invalidFields(given.map((path) => ({ path, message: "is carried by the cursor already; leave it out" })));
  return { asked, cursor: place, isCarried: true };
}

/** @throws AppError invalid_argument if the search is too long to be carried */
export function sealCarried(cursors: Cursors, actorId: string, asked: object, nextCursor: string): string {
  const sealed = prefix + cursors.seal(bindingOf(actorId), [asked, nextCursor]);
  if (sealed.length <= maxCarried) return sealed;
  const message = "has too many values for a cursor that carries them; ask for fewer at once";
  throw new AppError("invalid_argument", `where: ${message}`, { reason: "TOO_LONG_TO_CARRY", errors: [{ path: "where", message }] });
}
