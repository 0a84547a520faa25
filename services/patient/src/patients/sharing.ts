/** Whose a patient is, and with whom it is shared. */

import { authorize } from "@pm/kit/auth/verifier";
import { AppError, invalidFields } from "@pm/kit/errors";
import { type Call, viewerOf } from "../caller.ts";
import type { PatientDatabase } from "../database.ts";
import { findFor, notFound } from "./access.ts";
import { type Grant, readSharing, replaceSharing, transferPatients } from "./sharing-store.ts";
import type { Found } from "./store.ts";

type Principals = { users: string[]; teams: string[] };

/** Ids of users and teams who may read and write, and of those who may only read. */
export type Grantees = Principals & { readers: Principals };

/** `registeredBy` is the user who registered the patient. `owner` is the same until an administrator names another. */
export type Sharing = Grantees & { registeredBy: string; owner: string };

/** How many records a transfer gives away at once: rows with many indexes, in a second at most. */
const transferBatch = 500;

export function createSharing({ db }: { db: PatientDatabase }) {
  async function findToManage(call: Call, id: string): Promise<Found> {
    const found = await findFor(db, call, id, "manage");
    if (found.deletedAt) throw notFound(id);
    return found;
  }

  return {
    /** A merged record is shared as its survivor is. */
    async read(call: Call, asked: string): Promise<Sharing> {
      const found = await findFor(db, call, asked, "read");
      const { id, deletedAt } = found.mergedInto ? await findFor(db, call, found.mergedInto, "read") : found;
      if (deletedAt) throw notFound(asked);
      const { registeredBy, owner, grants } = await readSharing(db, { id, actor: call.actorId, requestId: call.requestId });
      return { registeredBy, owner, ...toGrantees(grants) };
    },

    /**
     * Shares a patient with exactly these users and teams, and nobody else besides its owner.
     * @throws AppError permission_denied if anybody but an administrator names another owner
     */
    async replace(
      call: Call,
      id: string,
      { owner, ...wanted }: Principals & { readers?: Principals | undefined; owner?: string | undefined },
    ): Promise<Sharing> {
      const grants = toGrants(wanted);
      const viewer = viewerOf(call.caller);
      for (;;) {
        const found = await findToManage(call, id);
        if (owner !== undefined && owner !== found.owner) requireAdministrator(call, found.id);
        // Whoever is no administrator names the owner who they are. They must not become it again if another one was
        // named meanwhile.
        const named = viewer.seesAll ? owner : undefined;
        const owners = await replaceSharing(db, { id, owner: named, grants, viewer, requestId: call.requestId });
        if (owners) return { ...owners, ...toGrantees(grants) };
        // The patient has changed hands or was deleted since it was found: what the caller may do is asked again.
      }
    },

    /** Gives records of one user to another one. Gives how many are left: then it is called again. */
    async transfer(call: Call, { from, to }: { from: string; to: string }): Promise<{ transferred: number; remaining: number }> {
      authorize(call.caller, "patient:all");
      if (from === to) throw invalidFields([{ path: "to", message: "must be another user than from" }]);
      return transferPatients(db, { from, to, limit: transferBatch, actor: call.actorId, requestId: call.requestId });
    },
  };
}

/** Whoever may write all patients administers them. */
function requireAdministrator(call: Call, id: string): void {
  if (call.caller.scopes.has("patient:all")) return;
  throw new AppError("permission_denied", "owner: only an administrator can name another owner.", { refused: { subject: id } });
}

/** Who is named for reading and for writing may write. In the order of principals, so that requests do not deadlock. */
function toGrants({ users, teams, readers }: Principals & { readers?: Principals | undefined }): Grant[] {
  const named = (principals: Principals | undefined, canWrite: boolean) =>
    [...(principals?.users ?? []).map((id) => `user:${id}`), ...(principals?.teams ?? []).map((id) => `team:${id}`)].map(
      (principal) => [principal, canWrite] as const,
    );
  const levels = new Map([...named(readers, false), ...named({ users, teams }, true)]);
  return [...levels].map(([principal, canWrite]) => ({ principal, canWrite })).sort((a, b) => (a.principal < b.principal ? -1 : 1));
}

export function toGrantees(grants: Grant[]): Grantees {
  const of = (kind: string, canWrite: boolean) =>
    grants
      .filter((grant) => grant.canWrite === canWrite && grant.principal.startsWith(kind))
      .map(({ principal }) => principal.slice(kind.length));
  const principals = (canWrite: boolean): Principals => ({ users: of("user:", canWrite), teams: of("team:", canWrite) });
  return { ...principals(true), readers: principals(false) };
}
