/** Who waits how long for a Postgres that is busy. */
import { connect, createServer, type Server } from "node:net";
import { testDatabase } from "@pm/stack/testing";
import { Pool } from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { toAppError } from "../src/errors.ts";
import { createLogger } from "../src/log.ts";
import { connectClient, connectionConfig, openDatabase } from "../src/postgres/database.ts";

const busyMs = 5_000;
const urls = await testDatabase("connections");
let busy: Server;
let url: string;

/** Passes everything on to Postgres, but takes its time before it begins. */
beforeAll(async () => {
  const postgres = new URL(urls.databaseUrl);
  busy = createServer((client) => {
    client.on("error", () => undefined);
    setTimeout(() => {
      const server = connect(Number(postgres.port), postgres.hostname);
      server.on("error", () => client.destroy());
      client.on("close", () => server.destroy());
      client.pipe(server).pipe(client);
    }, busyMs);
  });
  await new Promise<void>((resolve) => busy.listen(0, "127.0.0.1", resolve));
  const { port } = busy.address() as { port: number };
  url = Object.assign(new URL(postgres), { hostname: "127.0.0.1", port }).href;
});
afterAll(async () => {
  busy.close();
  await urls.drop();
});

test("a command waits for Postgres while it is busy", async () => {
  const pool = new Pool({ ...connectionConfig({ url }), max: 1 });
  expect((await pool.query("select 1 as one")).rows).toEqual([{ one: 1 }]);
  await pool.end();
});

const open = (at: string) =>
  openDatabase({ settings: { url: at }, poolSize: 1, applicationName: "busy", log: createLogger("test", "silent") });

test("a request does not", async () => {
  const db = open(url);
  const failure = await db.pool.query("select 1").catch((error: unknown) => error);
  expect(toAppError(failure).message).toContain("cannot be reached");
  await db.kysely.destroy();
});

test("a request waits longer for a connection that others use than for a new one", async () => {
  const db = open(urls.databaseUrl);
  const held = await db.pool.connect();
  setTimeout(() => held.release(), 4_000);
  expect((await db.pool.query("select 1 as one")).rows).toEqual([{ one: 1 }]);
  await db.kysely.destroy();
});

test("no plan is compiled, however many rows Postgres expects", async () => {
  const db = open(urls.databaseUrl);
  const leader = await connectClient({ url: urls.databaseUrl }, "leader");
  for (const client of [db.pool, leader]) expect((await client.query("show jit")).rows).toEqual([{ jit: "off" }]);
  await leader.end();
  await db.kysely.destroy();
});
