/** The rules: who may do what to which patient, and what follows from it. */
import { createHash } from "node:crypto";
import type { Caller } from "@pm/kit/auth";
import { createBatcher } from "@pm/kit/batch";
import { AppError } from "@pm/kit/errors";
import { type BillingAccounts, headStartMs } from "./billing.ts";
import { isUuid, uuidv7 } from "./ids.ts";
import { registeredEvent } from "./messages.ts";
import { newRecord } from "./record.ts";
import type { Patient } from "./schema.ts";
import {
  type Creation,
  insertPatients,
  type NewPatient,
  type PatientDatabase,
  type Reading,
  readFirstVersion,
  readPatients,
  type Viewer,
} from "./store.ts";

/** Who calls and within which request. */
export type Call = { caller: Caller; requestId: string; traceparent: string };

export type Patients = ReturnType<typeof createPatients>;

export function notFound(): AppError {
  return new AppError("not_found", "There is no patient with this id.");
}

export function emailTaken(): AppError {
  const message = "belongs to another patient; look that one up, or use another address";
  return new AppError("already_exists", `email: ${message}.`, { reason: "EMAIL_TAKEN", errors: [{ path: "email", message }] });
}

export function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

/** The access rule's side of a caller: `patient:all` lifts it, otherwise it goes by registration, the user and their teams. */
export function viewerOf(caller: Caller): Viewer {
  const principals = [`user:${caller.id}`, ...caller.teams.map((team) => `team:${team}`)];
  return { id: caller.id, seesAll: caller.scopes.has("patient:all"), principals };
}

export function createPatients(options: { db: PatientDatabase; billing: BillingAccounts; now: () => Date; committed: () => void }) {
  const { db, billing, now, committed } = options;

  const creations = createBatcher<NewPatient, Creation>({
    maxSize: 64,
    maxInFlight: 2,
    async run(patients) {
      const results = await insertPatients(db, patients);
      committed();
      return results;
    },
  });
  const readings = createBatcher<Reading, Patient | undefined>({
    maxSize: 64,
    maxInFlight: 2,
    run: (asked) => readPatients(db, asked),
  });

  async function get(call: Call, id: string): Promise<Patient> {
    if (!isUuid(id)) throw notFound();
    const patient = await readings.add({ id, viewer: viewerOf(call.caller), requestId: call.requestId });
    if (!patient) throw notFound();
    return patient;
  }

  return {
    get,

    /** Registers a patient. With an idempotency key, the same body under the same key gives the first answer again. */
    async create(call: Call, body: unknown, key: string | undefined): Promise<Patient & { repeated: boolean }> {
      const at = now();
      const id = uuidv7(at);
      const record = newRecord(body, at);
      const idempotency = key === undefined ? undefined : { key, hash: sha256(JSON.stringify(body)) };
      const result = await creations.add({
        id,
        at,
        actor: call.caller.id,
        action: "registered",
        requestId: call.requestId,
        record,
        digest: sha256(JSON.stringify(record)),
        idempotency,
        event: registeredEvent(id, at, call.traceparent, record),
        billingAt: new Date(at.getTime() + headStartMs),
      });
      if (result.kind === "email-taken") throw emailTaken();
      if (result.kind === "repeated") {
        if (result.hash !== idempotency?.hash)
          throw new AppError("idempotency_key_reused", "Idempotency-Key: was used for another body. Use a new key for a new request.");
        const first = await readFirstVersion(db, result.patientId);
        // The first request under this key was refused for its e-mail; the same request gets the same answer.
        if (!first) throw emailTaken();
        return { ...first, repeated: true };
      }
      const accountId = await billing.open({
        patient: { patientId: id, name: record.name, email: record.email },
        token: call.caller.kind === "user" ? call.caller.token : undefined,
        traceparent: call.traceparent,
      });
      return { id, version: 1, record, createdAt: at, updatedAt: at, accountId, repeated: false };
    },
  };
}
