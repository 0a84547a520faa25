/** With whom a patient is shared. Everybody who can see a patient can share it: care teams change faster than administrators answer. */
import { isUuid } from "@pm/kit/uuid";
import { type Call, viewerOf } from "../caller.ts";
import type { PatientDatabase } from "../database.ts";
import { notFound } from "./patients.ts";
import { readGrants, replaceGrants } from "./sharing-store.ts";
import { findPatient } from "./store.ts";

/** Ids of users and teams. `registeredBy` is the user who registered the patient and so always sees it. */
export type Sharing = { registeredBy: string; users: string[]; teams: string[] };

export function createSharing({ db }: { db: PatientDatabase }) {
  async function requireVisible(call: Call, id: string): Promise<void> {
    const found = isUuid(id) && (await findPatient(db, id, viewerOf(call.caller)));
    if (!found || found.deletedAt) throw notFound(id);
  }

  return {
    async read(call: Call, id: string): Promise<Sharing> {
      await requireVisible(call, id);
      const { registeredBy, principals } = await readGrants(db, { id, actor: call.actorId, requestId: call.requestId });
      const of = (kind: string) =>
        principals.filter((principal) => principal.startsWith(kind)).map((principal) => principal.slice(kind.length));
      return { registeredBy, users: of("user:"), teams: of("team:") };
    },

    /** Shares a patient with exactly these users and teams, besides whoever registered it. */
    async replace(call: Call, id: string, wanted: { users: string[]; teams: string[] }): Promise<Sharing> {
      await requireVisible(call, id);
      const users = [...new Set(wanted.users)].sort();
      const teams = [...new Set(wanted.teams)].sort();
      const principals = [...users.map((user) => `user:${user}`), ...teams.map((team) => `team:${team}`)];
      const registeredBy = await replaceGrants(db, { id, principals, actor: call.actorId, requestId: call.requestId });
      return { registeredBy, users, teams };
    },
  };
}
