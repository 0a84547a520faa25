/** Users as Practitioners and teams as Groups: what entries, versions and shares refer to. */
import { AppError } from "@pm/kit/errors";
import type { Ask, Call } from "../protocol/calls.ts";
import { idsOf, requireOne, uuidOf } from "../protocol/criteria.ts";
import { nothing, readable, unlessAbsent } from "../protocol/readable.ts";
import { type Person, type Team, toGroup, toPractitioner } from "./mapping.ts";

export function createPractitioners({ asks }: { asks: { auth: Ask } }) {
  async function named(call: Call, ids: string[]): Promise<Person[]> {
    const query = new URLSearchParams({ ids: ids.join(",") });
    return ((await asks.auth(call, "/auth/people", "/auth/people", { query })) as { items: Person[] }).items;
  }

  return readable<"Practitioner">({
    type: "Practitioner",
    example: toPractitioner({ id: "7f9c2ba4-e88f-4b3a-a6c5-3f1d2b4c5a69", name: "Florence Nightingale" }),
    documentation: "Users by their ids, with their names. A search needs _id.",
    definitions: { _id: { type: "token" } },
    includes: {},

    async read(call, id) {
      const [person] = await named(call, [uuidOf(id)]);
      if (!person) throw new AppError("not_found", "There is no such user.");
      return toPractitioner(person);
    },

    async search(call, search) {
      requireOne(search, "_id");
      const ids = idsOf(search) ?? [];
      return ids.length === 0 ? nothing : { matches: (await named(call, ids)).map(toPractitioner) };
    },
  });
}

export function createGroups({ asks }: { asks: { auth: Ask } }) {
  const get = async (call: Call, id: string): Promise<Team> =>
    (await asks.auth(call, "/auth/teams/{id}", `/auth/teams/${uuidOf(id)}`)) as Team;

  return readable<"Group">({
    type: "Group",
    example: toGroup({ id: "0198c0de-8b02-7f4e-9d3a-1c6e5a7b8f20", name: "Ward 3", members: 12 }),
    documentation: "Teams, with how many members they have.",
    definitions: { _id: { type: "token" } },
    includes: {},
    read: async (call, id) => toGroup(await get(call, id)),

    async search(call, search) {
      const ids = idsOf(search);
      if (ids) {
        const found = await Promise.all(ids.map((id) => get(call, id).catch(unlessAbsent)));
        return { matches: found.filter((team) => team !== undefined).map(toGroup) };
      }
      const query = new URLSearchParams({ limit: String(search.count), ...(search.cursor !== undefined && { cursor: search.cursor }) });
      const answer = await asks.auth(call, "/auth/teams", "/auth/teams", { query });
      const { items, nextCursor } = answer as { items: Team[]; nextCursor?: string };
      return { matches: items.map(toGroup), next: nextCursor };
    },
  });
}
