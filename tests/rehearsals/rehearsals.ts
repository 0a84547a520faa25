/** The faults by which runbooks are rehearsed, by the names of their alerts. */
import { setTimeout as delay } from "node:timers/promises";
import { type PatientAnswer, person } from "../e2e/client.ts";
import type { Rehearsal, Stage } from "./rehearsal.ts";

const ofService =
  (service: string, holds: (value: number) => boolean): Rehearsal["shows"] =>
  ({ labels, value }) =>
    labels.service === service && holds(value);

async function create(stage: Stage): Promise<string> {
  const answer = await (await stage.admin()).send("POST", "/patients", person());
  if (answer.status !== 201) throw new Error(`creating a patient answered ${answer.status}: ${answer.text}`);
  return (answer.body as PatientAnswer).id;
}

/** Imports so many patients, each of whom is an event of patient and one of billing. */
async function importPatients(stage: Stage, count: number): Promise<void> {
  const file = Array.from({ length: count }, () => `${JSON.stringify(person())}\n`).join("");
  const answer = await (await stage.admin()).send("POST", "/patients:import", file, { "content-type": "application/x-ndjson" });
  if (answer.status !== 200) throw new Error(`the import answered ${answer.status}: ${answer.text}`);
}

/** Ends a session as its owner does, so that auth publishes a revocation. */
async function logInAndOut(stage: Stage): Promise<void> {
  const client = await stage.admin();
  const login = await client.send("POST", "/auth/login", stage.credentials);
  const { refreshToken } = login.body as { refreshToken: string };
  const logout = await client.send("POST", "/auth/logout", { refreshToken });
  if (logout.status >= 300) throw new Error(`the log-out answered ${logout.status}: ${logout.text}`);
}

/** Those of every platform, in a cluster too. */
export const everywhere = {
  OutboxStuck: {
    fault: "Kafka is stopped, and 600 patients are imported",
    async cause(stage) {
      await stage.stop("kafka");
      await importPatients(stage, 600);
      return () => stage.start("kafka");
    },
    shows: ofService("patient", (value) => value > 500),
  },
  ConsumerLag: {
    fault: "a lock is held in the database of analytics, and 1,200 patients are imported",
    async cause(stage) {
      const release = await stage.hold("analytics", "lock table events in exclusive mode");
      await importPatients(stage, 1_200);
      return release;
    },
    shows: ({ labels, value }) => labels.group === "analytics" && value > 500,
  },
  CircuitBreakerOpen: {
    fault: "billing is stopped, and patients are created",
    async cause(stage) {
      await stage.stop("billing");
      return () => stage.start("billing");
    },
    traffic: create,
    shows: ({ labels, value }) => labels.target === "billing" && value === 1,
  },
  RevocationsSlow: {
    fault: "Kafka is stopped for a while, and sessions end meanwhile",
    async cause(stage) {
      await stage.stop("kafka");
      for (let session = 0; session < 5; session++) await logInAndOut(stage);
      await delay(3_000);
      // What is late is seen when it comes, so there is nothing left to undo.
      await stage.start("kafka");
      return async () => undefined;
    },
    shows: ({ value }) => value > 1,
  },
  DeadLettersWaiting: {
    fault: "Postgres refuses the event of a patient in the database of analytics",
    async cause(stage) {
      const id = await create(stage);
      const accept = () => stage.sql("analytics", "alter table events drop constraint if exists rehearsal");
      stage.atEnd(accept);
      await stage.sql("analytics", `alter table events add constraint rehearsal check (subject <> '${id}') not valid`);
      const client = await stage.admin();
      const changed = await client.send("PATCH", `/patients/${id}`, { name: "Rehearsed" });
      if (changed.status !== 200) throw new Error(`changing a patient answered ${changed.status}: ${changed.text}`);
      return async () => {
        await accept();
        const replayed = await client.send("POST", "/analytics/dead-letters:replay");
        if (replayed.status !== 200) throw new Error(`the replay answered ${replayed.status}: ${replayed.text}`);
      };
    },
    shows: ({ labels, value }) => labels.group === "analytics" && value > 0,
  },
} satisfies Record<string, Rehearsal>;

const freezeAnalytics: Rehearsal["cause"] = async (stage) => {
  await stage.stop("analytics");
  return () => stage.start("analytics");
};
const lockPatients = (stage: Stage) => stage.hold("patient", "lock table patients in access exclusive mode");
const readPatients = async (stage: Stage) => (await stage.admin()).get("/patients?limit=1");
const nothing: Rehearsal["cause"] = async () => async () => undefined;

/** Those of one machine: a process is frozen, which nobody outside can do to the first process of a container. */
export const onOneMachine = {
  ServiceDown: {
    fault: "analytics is frozen",
    cause: freezeAnalytics,
    shows: ofService("analytics", (value) => value === 0),
  },
  GatewayErrors: {
    fault: "analytics is frozen, and reports are asked for",
    cause: freezeAnalytics,
    traffic: async (stage) => (await stage.admin()).get("/analytics/patients?interval=day"),
    shows: ({ labels, value }) => labels.envoy_cluster_name === "analytics" && value > 0,
  },
  RequestErrors: {
    fault: "a lock is held on the patients, so that statements are given up",
    cause: lockPatients,
    traffic: (stage) => Promise.all([1, 2, 3, 4].map(() => readPatients(stage))),
    shows: ofService("patient", (value) => value > 0),
  },
  RequestsSlow: {
    fault: "a lock is held on the patients for two seconds at a time",
    cause: nothing,
    async traffic(stage, isOver) {
      if (isOver) return readPatients(stage);
      const release = await lockPatients(stage);
      const reading = readPatients(stage);
      await delay(2_000);
      await release();
      return reading;
    },
    shows: ofService("patient", (value) => value > 1),
  },
  EventLoopBlocked: {
    fault: "analytics is frozen for half a second at a time",
    cause: nothing,
    async traffic(stage, isOver) {
      if (isOver) return;
      await stage.stop("analytics");
      await delay(500);
      await stage.start("analytics");
    },
    shows: ofService("analytics", (value) => value > 0.25),
  },
} satisfies Record<string, Rehearsal>;
