/**
 * A patch of kafkajs 2.2.4, which has had no release since 2023 (docs/decisions/0007-kafkajs-is-patched.md). Importing
 * this file applies it.
 *
 * kafkajs polls the request queue of each connection every millisecond, even when it is empty (its issues 1556
 * and 1704). That costs 2 % of a core in each idle process, and Node warns about a negative timeout. Polls only when
 * requests are pending; every new request that has to wait starts a poll.
 */
import { createRequire } from "node:module";

type RequestQueue = { pending: unknown[]; scheduleCheckPendingRequests(): void };
const require = createRequire(import.meta.url);
const { prototype } = require("kafkajs/src/network/requestQueue") as { prototype: RequestQueue };
const { scheduleCheckPendingRequests } = prototype;
prototype.scheduleCheckPendingRequests = function (this: RequestQueue) {
  if (this.pending.length > 0) scheduleCheckPendingRequests.call(this);
};
