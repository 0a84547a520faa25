/** How callers write where changes begin: as an instant, or as the `until` of an answer before. */
import { invalidFields } from "@pm/kit/errors";
import { z } from "zod";
import type { Horizon, Since } from "./changes-store.ts";

const instant = z.iso.datetime({ offset: true });
const untilForm = /^([^_]+)(?:_(\d{1,19})_([\w.]{1,40}))?$/;

/** The same for documents, in regular expressions of other languages too. */
export const sincePattern =
  "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\\.[0-9]+)?)?(Z|[+-][0-9]{2}:[0-9]{2})(_[0-9]{1,19}_[A-Za-z0-9_.]{1,40})?$";

/** @throws AppError invalid_argument */
export function readSince(text: string, field = "updatedAfter"): Since {
  const [, at = "", xid, server] = untilForm.exec(text) ?? [];
  // Postgres has no instant before the year 1.
  if (!instant.safeParse(at).success || at < "0001")
    throw invalidFields([{ path: field, message: "must be an instant such as 2026-01-28T09:30:00Z, or `until` of an answer" }]);
  return { at, xid, server };
}

export const toUntil = ({ at, xid, server }: Horizon): string => `${at}_${xid}_${server}`;
