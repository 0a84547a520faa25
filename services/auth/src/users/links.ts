/** One-time links, sent by mail: 256 random bits that are valid once, for 30 minutes. */
import { createHash, randomBytes } from "node:crypto";
import { type AppError, invalidFields } from "@pm/kit/errors";
import type { AuthDatabase, AuthTransaction, LinkPurpose } from "../tables.ts";
import type { Change } from "../unit-of-work.ts";
import { deleteLinks, findLink, insertLink, type Link, takeLink } from "./links-store.ts";

const validSeconds = 30 * 60;

const hashOf = (token: string) => createHash("sha256").update(token).digest();

export function invalidLink(): AppError {
  return invalidFields([{ path: "token", message: "is unknown, was used already, or is older than 30 minutes; ask for a new one" }]);
}

/** Stores a link and returns its token. An earlier link of the same user for the same purpose becomes invalid. */
export async function createLink(tx: AuthTransaction, link: Link): Promise<string> {
  const token = randomBytes(32).toString("base64url");
  if (link.userId !== null) await deleteLinks(tx, link.userId, link.purpose);
  await insertLink(tx, hashOf(token), link, validSeconds);
  return token;
}

/** Does the same for a link that is mailed on request, and records it in the audit trail. */
export function createMailedLink({ tx, audit }: Change, link: Link): Promise<string> {
  audit("authn_link_sent", link.userId ?? "unknown", { purpose: link.purpose });
  return createLink(tx, link);
}

/** Reads a link without using it. @throws AppError invalid_argument if it is unknown, used or too old */
export async function readLink(db: AuthDatabase, token: string, ...purposes: LinkPurpose[]): Promise<Link> {
  const link = await findLink(db, hashOf(token), purposes);
  if (!link) throw invalidLink();
  return link;
}

/** Uses a link, which is invalid afterwards. @throws AppError invalid_argument if it is unknown, used or too old */
export async function useLink(tx: AuthTransaction, token: string, purpose: LinkPurpose): Promise<Link> {
  const link = await takeLink(tx, hashOf(token), [purpose]);
  if (!link) throw invalidLink();
  return link;
}
