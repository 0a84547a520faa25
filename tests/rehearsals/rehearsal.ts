/** How a runbook is rehearsed: a fault from outside, its alert, a query that shows the cause, and the repair. */
import { setTimeout as delay } from "node:timers/promises";
import type { ServiceName } from "@pm/stack/names";
import pg from "pg";
import { type Client, clientOf } from "../e2e/client.ts";
import { type Rehearsing, type Series, shortQueriesOf } from "./prometheus.ts";

/** A platform that runs, and how its parts are stopped and started from outside. */
export type Place = {
  gatewayUrl: string;
  admin: { email: string; password: string };
  /** The superuser's. */
  postgresUrl: string;
  stop(part: Part): Promise<void>;
  start(part: Part): Promise<void>;
};
export type Part = ServiceName | "kafka";

/** What a rehearsal does with a place. What `hold` and `stop` did is undone at the end in any case. */
export type Stage = {
  credentials: Place["admin"];
  admin(): Promise<Client>;
  sql(database: ServiceName, statement: string): Promise<void>;
  /** Begins a transaction, which holds its locks until it is released. */
  hold(database: ServiceName, statement: string): Promise<() => Promise<void>>;
  stop(part: Part): Promise<void>;
  start(part: Part): Promise<void>;
  /** Adds something to undo if the rehearsal ends early. */
  atEnd(undo: () => Promise<void>): void;
};

export type Rehearsal = {
  /** The fault, as a sentence. */
  fault: string;
  /** @returns how it is undone */
  cause(stage: Stage): Promise<() => Promise<void>>;
  /** What callers do meanwhile, again and again. `isOver` says that the fault is undone. */
  traffic?(stage: Stage, isOver: boolean): Promise<unknown>;
  /** Whether a series in the answer of one of the runbook's queries is the cause. */
  shows(series: Series): boolean;
};

const patienceMs = 180_000;
const pauseMs = 500;

function createStage(place: Place): Stage & { end(): Promise<void> } {
  const undone: (() => Promise<void>)[] = [];
  const connect = async (database: ServiceName) => {
    const url = Object.assign(new URL(place.postgresUrl), { pathname: `/${database}` }).href;
    const client = new pg.Client({ connectionString: url, application_name: "rehearsal" });
    client.on("error", () => undefined);
    await client.connect();
    return client;
  };
  let admin: { client: Promise<Client>; until: number } | undefined;
  const stopped = new Set<Part>();
  return {
    // Access tokens live for five minutes.
    admin() {
      if (admin && Date.now() < admin.until) return admin.client;
      const client = logIn(place);
      admin = { client, until: Date.now() + 120_000 };
      client.catch(() => {
        admin = undefined;
      });
      return client;
    },
    credentials: place.admin,
    async sql(database, statement) {
      const client = await connect(database);
      await client.query(statement).finally(() => client.end());
    },
    async hold(database, statement) {
      const client = await connect(database);
      let held = true;
      const release = async () => {
        if (held) await client.end();
        held = false;
      };
      undone.push(release);
      await client.query("begin");
      await client.query(statement);
      return release;
    },
    async stop(part) {
      stopped.add(part);
      await place.stop(part);
    },
    async start(part) {
      await place.start(part);
      stopped.delete(part);
    },
    atEnd: (undo) => void undone.push(undo),
    async end() {
      for (const part of stopped) await place.start(part);
      stopped.clear();
      for (const undo of undone.splice(0).reverse()) await undo();
    },
  };
}

async function logIn({ gatewayUrl, admin }: Place): Promise<Client> {
  const answer = await clientOf(gatewayUrl).send("POST", "/auth/login", admin);
  if (answer.status !== 200) throw new Error(`the log-in answered ${answer.status}: ${answer.text}`);
  return clientOf(gatewayUrl, (answer.body as { token: string }).token);
}

type Play = { place: Place; prometheus: Rehearsing; say: (line: string) => void; signal: AbortSignal };

/**
 * Rehearses one runbook, and leaves the platform as it was, but for the patients whom the rehearsal made.
 * @throws Error if the alert does not fire, the query does not show the cause, or the alert is not resolved afterwards
 */
export async function rehearse(runbook: string, rehearsal: Rehearsal, { place, prometheus, say, signal }: Play): Promise<void> {
  const stage = createStage(place);
  const began = Date.now();
  let isOver = false;
  let hasEnded = false;
  let calling = Promise.resolve();
  const tell = (text: string) => say(`${String(Math.round((Date.now() - began) / 1_000)).padStart(4)} s  ${text}`);
  const until = async (what: string, check: () => Promise<boolean>) => {
    const deadline = Date.now() + patienceMs;
    while (!(await check())) {
      if (Date.now() > deadline) throw new Error(`${runbook}: ${what}, which has not happened within ${patienceMs / 1_000} seconds`);
      signal.throwIfAborted();
      await delay(pauseMs);
    }
  };
  /** Callers of a platform with a fault wait and get errors, so looking at the alert does not wait for them. */
  const call = async () => {
    while (!hasEnded) {
      await rehearsal.traffic?.(stage, isOver).catch(() => undefined);
      await delay(pauseMs);
    }
  };
  const look = async () => {
    for (const query of shortQueriesOf(runbook)) {
      const found = (await prometheus.query(query)).find(rehearsal.shows);
      if (found) return `${query} is ${found.value} for ${JSON.stringify(found.labels)}`;
    }
    return undefined;
  };
  say(`${runbook}: ${rehearsal.fault}`);
  try {
    // The rehearsal before may have left something that this alert is about.
    await until("without its fault the alert is not to fire", async () => !(await prometheus.fires(runbook)));
    const undo = await rehearsal.cause(stage);
    calling = call();
    tell("the fault is there");
    await until("the alert is to fire", () => prometheus.fires(runbook));
    tell("the alert fires");
    let seen: string | undefined;
    await until("a query of the runbook is to show the cause", async () => {
      seen = await look();
      return seen !== undefined;
    });
    tell(`the runbook's query shows it: ${seen}`);
    await undo();
    isOver = true;
    tell("the fault is undone");
    await until("the alert is to be resolved", async () => !(await prometheus.fires(runbook)));
    await until("the query is to show nothing", async () => (await look()) === undefined);
    tell("the alert is resolved, and the query shows nothing any more");
  } finally {
    hasEnded = true;
    // A call may wait for what is stopped or locked.
    await stage.end();
    await calling;
    await stage.end();
  }
}
