/** The first administrator. */
import { randomBytes } from "node:crypto";
import type { Lifecycle } from "@pm/kit/lifecycle";
import type { Logger } from "@pm/kit/log";
import { sql } from "kysely";
import type { Passwords } from "../passwords/hashing.ts";
import type { AuthDatabase } from "../tables.ts";
import { actingAlone, type Changes } from "../unit-of-work.ts";

/** Makes the first administrator where there is no account at all. Returns whether it did. Safe to call from every replica. */
export async function makeFirstAdmin(options: {
  database: AuthDatabase;
  changes: Changes;
  passwords: Passwords;
  email: string;
  password: string;
}): Promise<boolean> {
  const { database, changes, passwords, email, password } = options;
  const any = await database.kysely.selectFrom("users").select("id").limit(1).executeTakeFirst();
  if (any) return false;
  const hash = await passwords.hash(password);
  return changes.run(actingAlone(), async ({ transaction, audit }) => {
    await sql`select pg_advisory_xact_lock(hashtextextended('first admin', 0))`.execute(transaction);
    const { rows } = await sql<{ id: string }>`
      insert into users (email, name, roles, password_hash)
      select ${email}, 'Administrator', array['admin'], ${hash} where not exists (select from users) returning id`.execute(transaction);
    const created = rows[0];
    if (created) audit("user_created", created.id, { roles: ["admin"], by: "ADMIN_EMAIL" });
    return created !== undefined;
  });
}

/**
 * Makes the first administrator as soon as the database answers; ready only after it. A password that was not given is
 * made up and printed once, on standard error and not in the log, which may be kept and shipped.
 */
export function startWithAdmin(options: {
  database: AuthDatabase;
  changes: Changes;
  passwords: Passwords;
  email: string;
  password: string | undefined;
  log: Logger;
  lifecycle: Lifecycle;
}): void {
  const { database, changes, passwords, email, log, lifecycle } = options;
  const password = options.password ?? randomBytes(15).toString("base64url");
  let done = false;
  let timer: NodeJS.Timeout | undefined;
  const attempt = async (): Promise<void> => {
    try {
      const made = await makeFirstAdmin({ database, changes, passwords, email, password });
      if (made && options.password === undefined) process.stderr.write(`The first administrator is ${email}, the password ${password}\n`);
      done = true;
    } catch (error) {
      log.warn({ err: error }, "the first administrator cannot be made yet; trying again");
      timer = setTimeout(() => void attempt(), 1_000);
    }
  };
  void attempt();
  lifecycle.onReady("first administrator", () => done);
  lifecycle.onClose("first administrator", () => clearTimeout(timer));
}
