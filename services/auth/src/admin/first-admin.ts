/** The first administrator of a new installation. */
import { randomBytes } from "node:crypto";
import type { Lifecycle } from "@pm/kit/lifecycle";
import type { Logger } from "@pm/kit/log";
import type { Passwords } from "../passwords/hashing.ts";
import type { AuthDatabase } from "../tables.ts";
import { systemActor, type UnitOfWork } from "../unit-of-work.ts";
import { hasUsers, insertFirstAdmin } from "../users/store.ts";

type Parts = { db: AuthDatabase; unitOfWork: UnitOfWork; passwords: Passwords };

/** Creates an administrator if there is no account at all. Returns whether it did. Every replica may call it. */
async function createFirstAdmin({ db, unitOfWork, passwords }: Parts, email: string, password: string): Promise<boolean> {
  if (await hasUsers(db)) return false;
  const passwordHash = await passwords.hash(password);
  return unitOfWork.run(systemActor(), async ({ tx, audit }) => {
    const id = await insertFirstAdmin(tx, { email, passwordHash });
    if (id !== undefined) audit("user_created", id, { roles: ["admin"], by: "ADMIN_EMAIL" });
    return id !== undefined;
  });
}

/**
 * Creates the first administrator as soon as the database answers. The service is ready afterwards. Without a given
 * password, it prints a random one to standard error, once. It does not log it, because logs may be kept and shipped.
 */
export function startFirstAdmin(options: Parts & { email: string; password: string | undefined; log: Logger; lifecycle: Lifecycle }): void {
  const { email, log, lifecycle } = options;
  const password = options.password ?? randomBytes(15).toString("base64url");
  let done = false;
  let timer: NodeJS.Timeout | undefined;
  const attempt = async (): Promise<void> => {
    try {
      const created = await createFirstAdmin(options, email, password);
      if (created && options.password === undefined)
        process.stderr.write(`The first administrator is ${email}, the password ${password}\n`);
      done = true;
    } catch (error) {
      log.warn({ err: error }, "the first administrator cannot be created yet; trying again");
      timer = setTimeout(() => void attempt(), 1_000);
    }
  };
  void attempt();
  lifecycle.onReady("first administrator", () => done);
  lifecycle.onClose("first administrator", () => clearTimeout(timer));
}
