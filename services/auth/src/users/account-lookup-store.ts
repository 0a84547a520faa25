/** The account as sign-in needs it: found by e-mail address or id, with password hash, roles, teams and version. */
import type { Role } from "@pm/kit/auth/access";
import { emailKey } from "@pm/kit/email";
import type { AuthDatabase } from "../tables.ts";

export type Account = {
  id: string;
  email: string;
  name: string;
  roles: Role[];
  password_hash: string | null;
  disabled: boolean;
  /** A second factor is in use. */
  enrolled: boolean;
  teams: string[];
  /** Changes with every change of the account or its teams. */
  version: string;
};

const columns = `u.id, u.email::text, u.name, u.roles, u.password_hash, u.disabled_at is not null as disabled,
  exists (select from second_factors f where f.user_id = u.id and f.confirmed_at is not null) as enrolled, u.updated_at::text as version,
  array(select team_id::text from team_members m where m.user_id = u.id order by team_id) as teams`;

/**
 * The query for the account of an e-mail address. `key` and `email` are SQL expressions. An account without a key has
 * the same address as another account, in another spelling, so it comes first for its own spelling.
 */
export const selectAccount = (key: string, email: string) => `select ${columns} from users u
  where u.email_key = ${key} or (u.email_key is null and u.email = (${email})::citext) order by u.email_key nulls first limit 1`;

export async function findAccountByEmail(db: AuthDatabase, email: string): Promise<Account | undefined> {
  return (await db.query<Account>({ name: "account_by_email", text: selectAccount("$1", "$2") }, [emailKey(email), email]))[0];
}

export async function findAccount(db: AuthDatabase, id: string): Promise<Account | undefined> {
  const statement = { name: "account_by_id", text: `select ${columns} from users u where id = $1` };
  return (await db.query<Account>(statement, [id]))[0];
}
