/** Who may be the same person as somebody: patients who share a key, a number or an address with them. */
import type { Queries } from "@pm/kit/postgres/transaction";
import { LRUCache } from "lru-cache";
import type { Viewer } from "../database.ts";
import { visible } from "../patients/access-store.ts";
import { accountColumn, type PatientRow, patientColumns, toPatient } from "../patients/store.ts";
import type { IdentifierKey, Patient } from "../tables.ts";

/** A key that more patients share is used only together with another such key. */
export const maxSharers = 50;

/** A key, or several that somebody must have together, as an array of Postgres: `{7}`, `{7,9}`. */
type Keys = string;

/**
 * Finds the patients who have each of some keys, whoever may see them. One more than `maxSharers` means: and others.
 */
export type FindByKeys = {
  (db: Queries, keys: Keys[]): Promise<Map<Keys, string[]>>;
  /** Whether it also finds those who have two keys together. */
  findsByTwo: boolean;
};

function createFindByKeys(name: string, hasKeys: string, findsByTwo: boolean): FindByKeys {
  const text = `
    select keys, ids from unnest($1::text[]) as keys cross join lateral (
      select array(select id from patients where ${hasKeys} limit ${maxSharers + 1}) as ids offset 0
    ) sharers where ids <> '{}'`;
  const find = async (db: Queries, keys: Keys[]) => {
    const rows = keys.length === 0 ? [] : await db.query<{ keys: Keys; ids: string[] }>({ name, text }, [keys]);
    return new Map(rows.map(({ keys, ids }) => [keys, ids]));
  };
  return Object.assign(find, { findsByTwo });
}

/** By any of their keys. */
export const findByAnyKey = createFindByKeys("match_keys_find", "match_keys @> keys::int[] and deleted_at is null", true);

/**
 * By the key that they are kept under (`birthKeys`). The bounds and the order tell Postgres to look into the index of
 * these keys, also while it has no statistics of a young table and reading all of it seems cheaper.
 */
export const findByBirthKey = createFindByKeys(
  "match_birth_keys_find",
  "match_keys[1] between (keys::int[])[1] and (keys::int[])[1] and deleted_at is null order by match_keys[1]",
  false,
);

/** Says which transactions a look-up does not see: those that are in flight now, and later ones. */
export async function readSnapshot(db: Queries): Promise<string> {
  const [row] = await db.query<{ snapshot: string }>(
    { name: "match_snapshot", text: "select pg_current_snapshot()::text as snapshot" },
    [],
  );
  if (!row) throw new Error("a snapshot has no row");
  return row.snapshot;
}

/** How many patients are read at most who were written meanwhile. They are read under a lock. */
export const maxWritten = 5_000;

// Numbers that are not given yet are of another server, from which a backup was restored. The order tells Postgres to
// look into the index of these numbers. Deleted patients count too, so that a deletion of very many is not read either.
const writtenSince = (isSince: string) => `
  (select id, case when deleted_at is null then match_keys end as keys from patients where ${isSince}
    order by changed_xid limit ${maxWritten + 1})`;
const writtenSinceStatement = {
  name: "match_written_since",
  text: `${writtenSince("changed_xid = any(array(select pg_snapshot_xip($1::text::pg_snapshot)))")}
    union all
    ${writtenSince("changed_xid >= pg_snapshot_xmax($1::text::pg_snapshot) and changed_xid < pg_snapshot_xmax(pg_current_snapshot())")}
    limit ${maxWritten + 1}`,
};

/**
 * By any of their keys, among those who were written by transactions that a snapshot does not have. It reads them once.
 * If they are too many, it looks among all patients instead.
 */
export async function findWrittenSince(db: Queries, snapshot: string): Promise<FindByKeys> {
  const written = await db.query<{ id: string; keys: number[] | null }>(writtenSinceStatement, [snapshot]);
  if (written.length > maxWritten) return findByAnyKey;
  const idsByKey = new Map<number, string[]>();
  for (const { id, keys } of written)
    for (const key of keys ?? []) {
      const ids = idsByKey.get(key);
      if (ids) ids.push(id);
      else idsByKey.set(key, [id]);
    }
  const idsOf = (keys: Keys) => {
    const [first = [], ...others] = keys
      .slice(1, -1)
      .split(",")
      .map((key) => idsByKey.get(Number(key)) ?? []);
    return first.filter((id) => others.every((ids) => ids.includes(id)));
  };
  const find = async (_: Queries, asked: Keys[]) =>
    new Map(asked.map((keys) => [keys, idsOf(keys)] as const).filter(([, ids]) => ids.length > 0));
  return Object.assign(find, { findsByTwo: true });
}

/**
 * Finds who shares keys with whom, and remembers for an hour which keys too many patients share. Those who have two
 * such keys together may be few enough.
 */
export function createSharers() {
  const common = new LRUCache<Keys, true>({ max: 100_000, ttl: 3_600_000 });

  /** Adds those who share the keys, unless they are too many. */
  async function find(db: Queries, asked: Keys[][], found: Set<string>[], findByKeys: FindByKeys): Promise<void> {
    const sharers = await findByKeys(
      db,
      [...new Set(asked.flat())].filter((keys) => !common.has(keys)),
    );
    for (const [keys, ids] of sharers)
      if (ids.length > maxSharers) {
        common.set(keys, true);
        sharers.delete(keys);
      }
    for (const [index, each] of asked.entries()) for (const keys of each) for (const id of sharers.get(keys) ?? []) found[index]?.add(id);
  }

  return {
    isCommon: (key: number) => common.has(`{${key}}`),

    /** The ids of patients who share one of each of these keys. */
    async of(db: Queries, asked: number[][], findByKeys: FindByKeys): Promise<string[][]> {
      const found = asked.map(() => new Set<string>());
      const single = asked.map((keys) => keys.map((key) => `{${key}}`));
      await find(db, single, found, findByKeys);
      if (findByKeys.findsByTwo) {
        const shared = asked.map((keys) => keys.filter((key) => common.has(`{${key}}`)).sort((a, b) => a - b));
        const two = shared.map((keys) => keys.flatMap((one, at) => keys.slice(at + 1).map((other) => `{${one},${other}}`)));
        await find(db, two, found, findByKeys);
      }
      return found.map((ids) => [...ids]);
    },
  };
}

const exactStatement = {
  name: "match_exact_find",
  text: `
    (select id from patients where words @@ $1::tsquery and deleted_at is null limit ${maxSharers})
    union
    select k.patient_id from json_to_recordset($2) as asked(system text, value text)
    join patient_identifiers k on k.system = asked.system and k.value = asked.value`,
};

/** The patients who have one of these words, which are whole numbers and addresses, or one of these identifiers. */
export async function findByWords(db: Queries, words: string[], identifiers: IdentifierKey[]): Promise<string[]> {
  if (words.length + identifiers.length === 0) return [];
  const query = words.map((word) => `'${word.replace(/['\\]/g, "$&$&")}'`).join(" | ");
  const rows = await db.query<{ id: string }>(exactStatement, [query, JSON.stringify(identifiers)]);
  return rows.map(({ id }) => id);
}

const readStatement = {
  name: "match_candidates_read",
  text: `
    with asked as materialized (
      select * from json_to_recordset($1) as a(actor text, sees_all boolean, principals text[], ids uuid[])
    )
    select a.actor, ${patientColumns}, ${accountColumn}
    from asked a cross join unnest(a.ids) as candidate(id)
    cross join lateral (select * from patients where id = candidate.id offset 0) p
    where p.deleted_at is null and ${visible("p", "a")}`,
};

/** The patients that each viewer may see, by the viewer's id, and by their own. */
export type Visible = Map<string, Map<string, Patient>>;

/** Reads the living patients that their viewer may see. Those who are shown are audited by who shows them. */
export async function readCandidates(db: Queries, asked: { viewer: Viewer; ids: string[] }[]): Promise<Visible> {
  const byViewer = Map.groupBy(
    asked.filter(({ ids }) => ids.length > 0),
    ({ viewer }) => viewer.id,
  );
  const input = [...byViewer.values()].flatMap((group) =>
    group.slice(0, 1).map(({ viewer }) => {
      const ids = [...new Set(group.flatMap((each) => each.ids))];
      return { actor: viewer.id, sees_all: viewer.seesAll, principals: viewer.principals, ids };
    }),
  );
  const rows = input.length === 0 ? [] : await db.query<PatientRow & { actor: string }>(readStatement, [JSON.stringify(input)]);
  const found: Visible = new Map();
  for (const [actor, patients] of Map.groupBy(rows, (row) => row.actor))
    found.set(actor, new Map(patients.map((row) => [row.id, toPatient(row)])));
  return found;
}
