/** For tests: the service's REST app in this process, over a real Postgres, and clients that speak its JSON. */

import { randomUUID } from "node:crypto";
import { createAuditTrail } from "@pm/kit/audit/trail";
import { registerTrail } from "@pm/kit/auditor/rest";
import { type Role, roles, type Scope } from "@pm/kit/auth/access";
import { createRevocationList } from "@pm/kit/auth/revocation-list";
import type { Caller, Verifier } from "@pm/kit/auth/verifier";
import { clinicConfig, readEnvironment } from "@pm/kit/config";
import { createCursors } from "@pm/kit/cursor";
import { AppError } from "@pm/kit/errors";
import { createRestApp, type RestApp } from "@pm/kit/http/rest";
import { createLogger } from "@pm/kit/log";
import { openDatabase } from "@pm/kit/postgres/database";
import { testLifecycle } from "@pm/kit/test/lifecycle";
import { testDatabase } from "@pm/stack/testing";
import { afterAll } from "vitest";
import { type AskBilling, createBillingAccounts } from "../src/billing/accounts.ts";
import { type RecordSettings, recordSettings } from "../src/config.ts";
import type { PatientDatabase } from "../src/database.ts";
import { createDisclosures } from "../src/disclosures/disclosures.ts";
import { registerDisclosures } from "../src/disclosures/rest.ts";
import { trailOf } from "../src/disclosures/store.ts";
import { openInEmergency } from "../src/emergencies/emergencies.ts";
import { registerEmergencies } from "../src/emergencies/rest.ts";
import type { ErasureInAnalytics } from "../src/erasure/analytics-client.ts";
import type { ErasureInBilling } from "../src/erasure/billing-client.ts";
import { createErasures } from "../src/erasure/erasures.ts";
import { registerErasures } from "../src/erasure/rest.ts";
import { createErasureWorker } from "../src/erasure/worker.ts";
import { createExports } from "../src/exports/exports.ts";
import { registerExports } from "../src/exports/rest.ts";
import { createImports } from "../src/files/import.ts";
import { registerProgress } from "../src/files/progress-rest.ts";
import { registerFiles } from "../src/files/rest.ts";
import { createTransfers } from "../src/files/transfers.ts";
import { createWorkList } from "../src/matching/duplicates.ts";
import { createMatching } from "../src/matching/matching.ts";
import { readModel } from "../src/matching/model-file.ts";
import { createDuplicates } from "../src/matching/newcomers.ts";
import { registerMatching, toCandidate } from "../src/matching/rest.ts";
import { createMerging } from "../src/merging/merging.ts";
import { registerMerging } from "../src/merging/rest.ts";
import { createBatches } from "../src/patients/batch.ts";
import { registerBatches } from "../src/patients/batch-rest.ts";
import { createConflicts } from "../src/patients/conflicts.ts";
import { createFeed } from "../src/patients/feed.ts";
import { createHistory } from "../src/patients/history.ts";
import { registerHistory } from "../src/patients/history-rest.ts";
import { createLists } from "../src/patients/list.ts";
import { createPatients } from "../src/patients/patients.ts";
import { registerPatients } from "../src/patients/rest.ts";
import { about } from "../src/patients/schemas.ts";
import { registerSearch } from "../src/patients/search-rest.ts";
import { createSharing } from "../src/patients/sharing.ts";
import { createTotals } from "../src/patients/totals.ts";
import { registerTotals } from "../src/patients/totals-rest.ts";
import { createWordCounts } from "../src/patients/word-frequencies-store.ts";
import { createRecordNumbers } from "../src/record-numbers/record-numbers.ts";
import { registerDocs } from "../src/swagger-ui.ts";
import type { Tables } from "../src/tables.ts";

type Answer = { status: number; headers: Headers; text: string; body: ReturnType<typeof JSON.parse> };

export type Client = {
  caller: Caller;
  /** Sends JSON (a text goes as it is) and reads the answer. */
  send(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>;
};

export type PatientApp = Awaited<ReturnType<typeof startPatientApp>>;

/** What a clinic asks that has set nothing. */
export const defaultSettings = recordSettings(readEnvironment(clinicConfig, {}));

type AppOptions = {
  ask?: AskBilling;
  poolSize?: number;
  settings?: Partial<RecordSettings>;
  limits?: Parameters<typeof createTransfers>[0]["limits"];
  /** What billing says of erasures. */
  erasureInBilling?: ErasureInBilling;
  /** What analytics says of them; it has erased everybody where nothing is said. */
  erasureInAnalytics?: ErasureInAnalytics;
  retentionYears?: number;
  /** Where the trails of other services are. */
  others?: { [service: string]: string };
};

const cursors = createCursors("a key for cursors, long enough to be one");

/** Billing holds nothing and erases everything. */
const nothingHeld: ErasureInBilling = {
  holds: async () => undefined,
  restrict: async () => undefined,
  erase: async () => ({ at: new Date(), removed: { accounts: 1 } }),
};

function registerStreams(rest: RestApp, { db, ...parts }: Parameters<typeof registerFiles>[1] & { db: PatientDatabase }): void {
  registerFiles(rest, parts);
  registerExports(rest, { exports: createExports({ db }), transfers: parts.transfers });
}

/** Knows the callers of this app by what they send, and says at once when a session has ended. */
function createTestVerifier(callers: Map<string, Caller>, revocations: ReturnType<typeof createRevocationList>): Verifier {
  return {
    async verify(authorization: string | null | undefined) {
      const caller = callers.get(authorization ?? "");
      if (!caller) throw new AppError("unauthenticated", "Send an access token.");
      return caller;
    },
    onRevoked: (caller: Caller, end: (refusal: AppError) => void) =>
      revocations.onRevoked({ ...caller, userId: caller.id }, () => end(new AppError("unauthenticated", "This session has ended."))),
  };
}

/** @param options.ask how billing answers; it opens every account at once where nothing is said */
export async function startPatientApp(
  databaseUrl: string,
  {
    ask = async (patients) => patients.map(() => randomUUID()),
    poolSize = 10,
    settings: set = {},
    limits,
    erasureInBilling = nothingHeld,
    erasureInAnalytics = { erased: async () => ({ at: new Date(), removed: { events: 1 } }) },
    retentionYears = 10,
    others = {},
  }: AppOptions = {},
) {
  const log = createLogger("patient", "silent");
  const lifecycle = testLifecycle();
  const db = openDatabase<Tables>({ settings: { url: databaseUrl }, poolSize, applicationName: "patient", log, lifecycle });
  const audit = createAuditTrail(db);
  const billing = createBillingAccounts({ db, log, ask });
  const callers = new Map<string, Caller>();
  const revocations = createRevocationList();
  const verifier = createTestVerifier(callers, revocations);
  const rest = createRestApp({ service: "patient", ...about, log, lifecycle, verifier, audit });
  const [now, committed, settings] = [() => new Date(), () => undefined, { ...defaultSettings, ...set }];
  const recordNumbers = createRecordNumbers({ db, prefix: "P", start: 100_000 });
  const search = { dateOrder: "YMD", phoneRegion: settings.phoneRegion } as const;
  const lists = createLists({ db, cursors, search, isRewritten: () => true });
  const conflicts = createConflicts({ db });
  const matching = createMatching({ db, audit, model: readModel(), frequencies: createWordCounts(db), now, settings });
  const duplicates = createDuplicates(matching, toCandidate);
  const patients = createPatients({ db, audit, billing, recordNumbers, conflicts, duplicates, committed, now, settings });
  const imports = createImports({ db, audit, recordNumbers, merge: patients.merge, duplicates, committed, now, settings });
  registerDocs(rest);
  registerProgress(rest, { db });
  registerEmergencies(rest, { db });
  registerStreams(rest, { db, lists, imports, transfers: createTransfers({ db, log, lifecycle, ...(limits && { limits }) }) });
  registerMatching(rest, { matching, workList: createWorkList({ db, cursors }) });
  registerHistory(rest, { history: createHistory({ db, cursors }), feed: createFeed({ db, cursors }) });
  registerSearch(rest, { lists, settings, cursors });
  registerBatches(rest, createBatches({ db, billing, recordNumbers, conflicts, committed, now, settings }));
  registerPatients(rest, {
    patients,
    lists,
    sharing: createSharing({ db }),
    openInEmergency: (call, patientId, reason) => openInEmergency(db, call, patientId, reason),
  });
  const erasing = { db, audit, billing: erasureInBilling, analytics: erasureInAnalytics, retentionYears, now, committed, log };
  const eraseDue = createErasureWorker(erasing);
  registerErasures(rest, createErasures({ ...erasing, wake: () => undefined }));
  registerMerging(rest, createMerging({ db, conflicts, now, settings, committed }));
  registerTotals(rest, createTotals({ db, cursors, now, clinicTimeZone: settings.clinicTimeZone }));
  registerTrail(rest, { service: "patient", db, audit, ofPatient: (patientId) => trailOf(db, patientId) });
  registerDisclosures(rest, { disclosures: createDisclosures({ db, audit, cursors, others }) });

  return {
    db,
    app: rest.app,
    /** What auth says; a session that it says has ended is over at once. */
    revocations,
    billing,
    /** Completes the erasures that are due. */
    eraseDue,
    lifecycle,
    close: () => lifecycle.shutdown("test"),
    /** Somebody with a role, or a service with scopes of its own. */
    as(role: Role | Scope[], { id = randomUUID() as string, teams = [] as string[], hasSecondFactor = false } = {}): Client {
      const token = randomUUID();
      const scopes = typeof role === "string" ? roles[role] : role;
      const caller: Caller = {
        kind: typeof role === "string" ? "user" : "service",
        id,
        sessionId: randomUUID(),
        roles: typeof role === "string" ? [role] : [],
        scopes: new Set<Scope>(scopes),
        teams,
        hasSecondFactor,
        token,
        issuedAt: Date.now() / 1_000,
        expiresAt: Number.MAX_SAFE_INTEGER,
      };
      callers.set(`Bearer ${token}`, caller);
      return {
        caller,
        async send(method, path, body, headers = {}) {
          const response = await rest.app.request(path, {
            method,
            headers: { authorization: `Bearer ${token}`, ...(body !== undefined && { "content-type": "application/json" }), ...headers },
            ...(body !== undefined && { body: typeof body === "string" ? body : JSON.stringify(body) }),
          });
          const text = await response.text();
          const isJson = /json$/.test(response.headers.get("content-type") ?? "");
          return { status: response.status, headers: response.headers, text, body: isJson && text !== "" ? JSON.parse(text) : undefined };
        },
      };
    },
  };
}

/** The service over a database of its own for all tests of a file, and its admin; both are gone after the last one. */
export async function patientsOfThisFile(options: AppOptions = {}) {
  const database = await testDatabase("patient");
  const service = await startPatientApp(database.databaseUrl, options);
  afterAll(async () => {
    await service.close();
    await database.drop();
  });
  return { database, service, admin: service.as("admin") };
}

/** A body that is right, unlike every other one. */
export function someBody(fields: Record<string, unknown> = {}): Record<string, unknown> {
  const email = `ada.${randomUUID()}@example.com`;
  return { name: "Ada Lovelace", email, address: "12 St James's Square, London", dateOfBirth: "1815-12-10".replace("18", "19"), ...fields };
}

const syllables = "bra chu di fle go hul ja kem lo mur ni pax qui ros tev wyn".split(" ");
let people = 0;
/** The body of somebody who is like none of the others: names at random of one day are too often alike. */
export function stranger(fields: Record<string, unknown> = {}): Record<string, unknown> {
  const number = ++people;
  const word = () => [...randomUUID().slice(0, 4)].map((digit) => syllables[Number.parseInt(digit, 16)]).join("");
  return {
    firstName: word(),
    lastName: word(),
    email: `${randomUUID()}@example.com`,
    address: { street: `${number} ${word()}`, city: word(), zipCode: String(10_000 + number * 739) },
    dateOfBirth: `19${10 + (number % 80)}-0${1 + (number % 9)}-1${number % 10}`,
    ...fields,
  };
}
