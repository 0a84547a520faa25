/** What this service asks of patient-service, as the caller. */
import type { Ask, Call } from "../rest/inner.ts";
import type { Patient } from "./patient.ts";

export type Patients = ReturnType<typeof createPatients>;

export function createPatients(ask: Ask) {
  const one = (id: string) => `/patients/${encodeURIComponent(id)}`;

  return {
    async get(call: Call, id: string): Promise<Patient> {
      return (await (await ask(call, "/patients/{id}", one(id))).json()) as Patient;
    },
  };
}
