/** Who calls, and what the access rule says about them. */
import type { Caller } from "@pm/kit/auth/verifier";
import { type RestContext, requestContext } from "@pm/kit/http/rest";
import type { RequestContext } from "@pm/kit/request-context";
import type { Viewer } from "./database.ts";

/** Who calls, and within which request. */
export type Call = RequestContext & { caller: Caller };

export function callOf(c: RestContext): Call {
  return { ...requestContext(c), caller: c.get("caller") };
}

/** `patient:all` lifts the access rule. Others see what they own, and what is shared with them or their teams. */
export function viewerOf(caller: Caller): Viewer {
  const principals = [`user:${caller.id}`, ...caller.teams.map((team) => `team:${team}`)];
  return { id: caller.id, seesAll: caller.scopes.has("patient:all"), principals };
}
