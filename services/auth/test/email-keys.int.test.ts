import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { hash } from "@node-rs/argon2";
import { afterAll, expect, test } from "vitest";
import { argon2Options } from "../src/passwords/hashing.ts";
import { admin, startAuth } from "./testing.ts";

const auth = await startAuth();
afterAll(() => auth.stop());

const password = "correct horse battery";
const passwordHash = await hash(password, argon2Options);
const signsIn = async (email: string) => (await auth.call("POST", "/auth/login", { body: { email, password } })).status;

/** Inserts an account with the statement of the version before e-mail keys. */
async function insertAsBefore(email: string): Promise<string> {
  const statement = "insert into users (email, name, roles, password_hash) values ($1, '', '{user}', $2) returning id";
  return (await auth.pool.query(statement, [email, passwordHash])).rows[0].id;
}

async function migrate(): Promise<{ ids: string[]; output: string }> {
  const env = { PATH: process.env.PATH, MIGRATION_DATABASE_URL: String(auth.owner.options.connectionString) };
  const { stdout } = await promisify(execFile)(process.execPath, [join(import.meta.dirname, "../src/commands/migrate.ts")], { env });
  const lines = stdout.split("\n").filter(Boolean);
  return { ids: lines.flatMap((line) => JSON.parse(line).userIds ?? []), output: stdout };
}

test("accounts of the version before e-mail keys sign in, while both versions run", async () => {
  const id = await insertAsBefore("Old.Version@example.com");
  expect(await signsIn("old.version@EXAMPLE.com")).toBe(200);
  await auth.pool.query("update users set email = $1 where id = $2", ["Still.Old@example.com", id]);
  expect([await signsIn("still.old@example.com"), await signsIn("old.version@example.com")]).toEqual([200, 401]);
});

test("an address has one account in all its spellings, and keeps the one that it was given", async () => {
  const { token } = await auth.login(admin);
  const create = (email: string) => auth.call("POST", "/auth/users", { token, body: { email, role: "user", password } });
  const { body } = await create("Florence@XN--BCHER-KVA.example");
  expect(body.email).toBe("Florence@XN--BCHER-KVA.example");
  expect(await create("florence@xn--bcher-kva.example")).toMatchObject({ status: 409, body: { errors: [{ path: "email" }] } });
  for (const spelling of ["FLORENCE@b\u00fccher.example", "florence@B\u00dcCHER.example"]) expect(await signsIn(spelling)).toBe(200);
});

test("accounts whose spellings are one address are listed by id, and everybody still signs in to their own", async () => {
  const composed = await insertAsBefore("zo\u00eb@example.com");
  const decomposed = await insertAsBefore("zoe\u0308@example.com");
  const unicode = await insertAsBefore("ada@b\u00fccher.example");
  const ascii = await insertAsBefore("ada@xn--bcher-kva.example");
  const alone = await insertAsBefore("ren\u00e9@example.com");
  const { ids, output } = await migrate();
  expect(ids.toSorted()).toEqual([composed, decomposed, unicode].toSorted());
  expect(output).not.toMatch(/@|cher/);
  const { rows } = await auth.pool.query("select id, email_key from users where id = any($1) order by id", [
    [composed, decomposed, unicode, ascii, alone],
  ]);
  expect(rows.map(({ email_key }) => email_key)).toEqual([null, null, null, "ada@xn--bcher-kva.example", "ren\u00e9@example.com"]);

  const sub = async (email: string) => {
    const { token } = await auth.login({ email, password });
    return (await auth.call("GET", "/auth/me", { token })).body.id;
  };
  expect(await sub("Zo\u00eb@example.com")).toBe(composed);
  expect(await sub("Zoe\u0308@example.com")).toBe(decomposed);
  expect(await sub("ada@b\u00fccher.example")).toBe(unicode);
  expect(await sub("ADA@xn--bcher-kva.example")).toBe(ascii);
  expect(await sub("Rene\u0301@example.com")).toBe(alone);

  // Once the operator has given one of them another address, the other gets its key.
  await auth.pool.query("update users set email = 'zoe.two@example.com' where id = $1", [decomposed]);
  expect((await migrate()).ids).toEqual([unicode]);
  expect(await sub("zoe\u0308@example.com")).toBe(composed);
});
