/** The rules of reading and writing patients as FHIR has them. */
import { AppError } from "@pm/kit/errors";
import type * as fhir from "fhir/r4.js";
import type { Operation } from "rfc6902";
import type { Call } from "../protocol/calls.ts";
import { unprocessable } from "../protocol/outcome.ts";
import type { Patients } from "./client.ts";
import { fromSystemUri } from "./codes.ts";
import { toFhir } from "./mapping.ts";
import { patched } from "./patching.ts";
import type { Patient } from "./patient.ts";
import { readPatient, type Written } from "./writing.ts";

type Headers = Record<string, string>;
export type Identifier = { system: string; value: string };
/** What was done, and the patient as they are now. */
export type Stored = { patient: Patient; isNew: boolean };

/** How often a write is tried again that lost a race, unless its caller named the version that they change. */
export const maxTries = 5;

const hasLost = (error: unknown): boolean => error instanceof AppError && error.code === "aborted";
const isNotFound = (error: unknown): boolean => error instanceof AppError && error.code === "not_found";

/** An update does not create a patient, because ids are given here. FHIR has a status of its own for that. */
export function asUpdateOfNobody(error: unknown): never {
  if (!isNotFound(error)) throw error;
  throw new AppError("method_not_allowed", "There is no such patient. Ids are given here: create one by POST.", { cause: error });
}

/** An identifier as patient-service has it. */
const storedName = ({ system, value }: Identifier): string => `${fromSystemUri(system) ?? system}|${value.trim()}`.normalize();

/** Those whom a Bundle names, of those whom the caller may see. */
export type Named = { withId: (id: string) => Patient | undefined; holderOf: (identifier: Identifier) => Patient | undefined };

/** Reading, by id and by identifier. */
function createReads(patients: Patients) {
  const latestOf = async (call: Call, id: string) => (await patients.history(call, id, new URLSearchParams("limit=1"))).items[0];

  /** A 404 of a patient who was deleted as FHIR has it: 410. Whoever may not see them reads 404 here too. */
  async function goneIfDeleted(call: Call, id: string, error: unknown): Promise<never> {
    if (!isNotFound(error)) throw error;
    const latest = await latestOf(call, id);
    if (latest?.action !== "deleted" && latest?.action !== "erased") throw error;
    const [message, reason] = [`Patient/${id} was ${latest.action}. Version ${latest.version} says when.`, latest.action.toUpperCase()];
    throw new AppError("gone", message, { reason, cause: error });
  }

  async function named(call: Call, field: "id" | "identifier", anyOf: string[], states: ("living" | "merged")[]): Promise<Patient[]> {
    return anyOf.length === 0 ? [] : (await patients.search(call, { where: [{ field, anyOf }], states, limit: anyOf.length })).items;
  }

  return {
    goneIfDeleted,

    /** A patient as they are. One who was merged into another stays readable by their own id, and says into whom. */
    async get(call: Call, id: string): Promise<Patient> {
      const patient = await patients.get(call, id).catch((error: unknown) => goneIfDeleted(call, id, error));
      return patient.mergedFrom === undefined ? patient : patients.version(call, id, String((await latestOf(call, id))?.version));
    },

    /** The patient with an identifier, of those whom the caller may see. No two have the same. */
    find: async (call: Call, identifier: Identifier) => (await named(call, "identifier", [storedName(identifier)], ["living"]))[0],

    /** All patients whom a Bundle names by their ids or identifiers, in one request for each of the two. */
    async findAll(call: Call, ids: string[], identifiers: Identifier[]): Promise<Named> {
      const [byId, byIdentifier] = await Promise.all([
        named(call, "id", ids, ["living", "merged"]),
        named(call, "identifier", identifiers.map(storedName), ["living"]),
      ]);
      const holders = byIdentifier.flatMap((patient) =>
        (patient.identifiers ?? []).map(({ system, value }) => [`${system}|${value}`, patient] as const),
      );
      const [known, held] = [new Map(byId.map((patient) => [patient.id, patient])), new Map<string, Patient>(holders)];
      return { withId: (id) => known.get(id.toLowerCase()), holderOf: (identifier) => held.get(storedName(identifier)) };
    },
  };
}

export type PatientRules = ReturnType<typeof createPatientRules>;

/** Tries again while others write the patient first, unless the caller has said which version they mean. */
async function untilWon<Result>(headers: Headers, attempt: () => Promise<Result>): Promise<Result> {
  for (let tries = 1; ; tries++)
    try {
      return await attempt();
    } catch (error) {
      if (!hasLost(error) || headers["if-match"] !== undefined || tries >= maxTries) throw error;
    }
}

export function createPatientRules(patients: Patients) {
  const { get, find, findAll, goneIfDeleted } = createReads(patients);

  const create = async (call: Call, resource: fhir.Patient): Promise<Stored> => ({
    patient: await patients.create(call, readPatient(resource)),
    isNew: true,
  });

  async function replace(call: Call, current: Patient, resource: fhir.Patient, headers: Headers): Promise<Stored> {
    return { patient: await patients.replace(call, current.id, rewrite(current, resource), headers), isNew: false };
  }

  /**
   * Of several who create a patient with an identifier at once, the index lets one through. The others find that one.
   */
  const createOr = (call: Call, resource: fhir.Patient, identifier: Identifier, use: (found: Patient) => Promise<Stored>) =>
    create(call, resource).catch(async (error: unknown) => {
      const other = error instanceof AppError && error.code === "already_exists" ? await find(call, identifier) : undefined;
      if (!other) throw error;
      return use(other);
    });

  return {
    get,
    find,
    findAll,
    goneIfDeleted,
    create,

    /** Creates a patient unless there is one with the identifier. */
    async createUnlessThere(call: Call, resource: fhir.Patient, identifier: Identifier): Promise<Stored> {
      requireIdentifier(resource, identifier);
      const found = await find(call, identifier);
      if (found) return { patient: found, isNew: false };
      return createOr(call, resource, identifier, async (patient) => ({ patient, isNew: false }));
    },

    async update(call: Call, id: string, resource: fhir.Patient, headers: Headers): Promise<Stored> {
      requireIdOfUrl(resource, id);
      const current = await get(call, id).catch(asUpdateOfNobody);
      return replace(call, current, resource, headers);
    },

    async updateWhere(call: Call, identifier: Identifier, resource: fhir.Patient, headers: Headers): Promise<Stored> {
      requireIdentifier(resource, identifier);
      const ifMatch = headers["if-match"];
      const replaceFound = (found: Patient): Promise<Stored> => {
        requireSamePatient(resource, found, ifMatch);
        return replace(call, found, resource, headers);
      };
      const current = await find(call, identifier);
      if (current) return replaceFound(current);
      requireSamePatient(resource, undefined, ifMatch);
      return createOr(call, resource, identifier, replaceFound);
    },

    patch(call: Call, id: string, operations: Operation[], headers: Headers): Promise<Stored> {
      return untilWon(headers, async () => {
        const current = await get(call, id);
        const resource = patched(toFhir(current), operations);
        return replace(call, current, resource, { "if-match": `"${current.version}"`, ...headers });
      });
    },

    /**
     * Deletes a patient. One who was deleted before stays deleted. One whose erasure waits for a hold is still there
     * for administrators, who are not told that a deletion was done.
     */
    async remove(call: Call, id: string, headers: Headers): Promise<void> {
      await patients.remove(call, id, headers).catch(async (error: unknown) => {
        await goneIfDeleted(call, id, error).catch((found: unknown) => {
          if (!(found instanceof AppError && found.options.reason === "DELETED")) throw found;
        });
      });
    },

    /** Deletes the patient with an identifier. If nobody has it, that is done already. */
    removeWhere(call: Call, identifier: Identifier, headers: Headers): Promise<void> {
      return untilWon(headers, async () => {
        const found = await find(call, identifier);
        if (!found) return requireNoVersion(headers["if-match"]);
        return patients.remove(call, found.id, { "if-match": `"${found.version}"`, ...headers });
      });
    },
  };
}

/** What a patient becomes whom a resource replaces. */
export const rewrite = (current: Patient, resource: fhir.Patient): Written =>
  readPatient(resource, { body: current, links: toFhir(current).link });

/** @throws AppError precondition_failed: there is no version of nobody */
export function requireNoVersion(ifMatch: string | undefined): void {
  if (ifMatch === undefined) return;
  throw new AppError("precondition_failed", "No patient has this identifier, so none has the version of If-Match.");
}

export function requireIdOfUrl({ id: given }: fhir.Patient, id: string): void {
  if (given === id) return;
  const message = `must be the id of the URL, ${id}`;
  throw new AppError("invalid_argument", `Patient.id: ${message}`, { errors: [{ path: "Patient.id", message }] });
}

/**
 * @throws AppError precondition_failed unless the body of a conditional update is about the patient whom the condition
 * found, or about a new one
 */
export function requireSamePatient({ id }: fhir.Patient, found: Patient | undefined, ifMatch: string | undefined): void {
  const refuse = (message: string): never => {
    throw new AppError("precondition_failed", message);
  };
  if (!found) requireNoVersion(ifMatch);
  if (found && id !== undefined && id !== found.id) refuse(`The condition means Patient/${found.id}, and the body another patient.`);
  if (!found && id !== undefined) refuse("No patient has this identifier. Leave the id out to create one.");
}

/** Without it in the body, the index would not keep two requests at once apart, and the next one would find nobody. */
export function requireIdentifier(resource: fhir.Patient, identifier: Identifier): void {
  if (resource.identifier?.some(({ system, value }) => system === identifier.system && value === identifier.value)) return;
  const message = "must have the identifier of the condition, which keeps two requests at once apart";
  throw unprocessable([{ path: "Patient.identifier", message }]);
}
