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
  async function current(call: Call, id: string): Promise<Sharing> {
    if (!isUuid(id)) throw notFound();
    const found = await findPatient(db, id, viewerOf(call.caller));
    if (!found || found.deleted) throw notFound();
    const { registeredBy, principals } = await readGrants(db, id);
    const of = (kind: string) =>
      principals.filter((principal) => principal.startsWith(kind)).map((principal) => principal.slice(kind.length));
    return { registeredBy, users: of("user:"), teams: of("team:") };
  }

  return {
    read: current,

    /** Shares a patient with exactly these users and teams, besides whoever registered it. */
    async replace(call: Call, id: string, wanted: { users: string[]; teams: string[] }): Promise<Sharing> {
      const before = await current(call, id);
      const users = [...new Set(wanted.users)].sort();
      const teams = [...new Set(wanted.teams)].sort();
      const principals = [...users.map((user) => `user:${user}`), ...teams.map((team) => `team:${team}`)];
      await replaceGrants(db, { id, principals, actor: call.actorId, requestId: call.requestId });
      return { registeredBy: before.registeredBy, users, teams };
    },
  };
}
