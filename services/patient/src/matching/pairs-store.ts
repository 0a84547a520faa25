/** Pairs of records that may be one person, and what people decided about them. */
import type { Queries } from "@pm/kit/postgres/transaction";
import type { PairState } from "../tables.ts";

const settleStatement = {
  name: "duplicate_pairs_settle",
  text: `
    insert into duplicate_pairs (first_id, second_id, state, decided_by, decided_at)
    select least(one, other), greatest(one, other), $3, $4, now()
    from unnest($1::uuid[], $2::uuid[]) as pair(one, other) where one <> other group by 1, 2 order by 1, 2
    on conflict (first_id, second_id) do update set state = excluded.state, decided_by = excluded.decided_by, decided_at = excluded.decided_at`,
};

/**
 * Notes what somebody decided about pairs of patients: that both are one (`merged`) or are not (`not_the_same`), or that it is to be
 * decided again (`open`). The decision stays through every new score. Whoever may decide it has been checked, and audits it.
 */
export async function settlePairs(db: Queries, pairs: (readonly [string, string])[], state: PairState, actor: string): Promise<void> {
  if (pairs.length === 0) return;
  await db.query(settleStatement, [pairs.map(([one]) => one), pairs.map(([, other]) => other), state, actor]);
}
