/** The API, from what it is made of. `main.ts` runs it, and a test reads its OpenAPI document. */

import type { Verifier } from "@pm/kit/auth/verifier";
import { createRestApp } from "@pm/kit/http/rest";
import type { Lifecycle } from "@pm/kit/lifecycle";
import type { Logger } from "@pm/kit/log";
import { about } from "./about.ts";
import { createAccounts } from "./accounts/account.ts";
import { createAuditEvents } from "./audit/event.ts";
import { createProvenance } from "./audit/provenance.ts";
import { createBilling } from "./billing/client.ts";
import { registerBundles } from "./bundles/rest.ts";
import { createTransactions } from "./bundles/transaction.ts";
import { createCharges } from "./charges/charge.ts";
import { operationDefinitions } from "./conformance/operation-definition.ts";
import { registerConformance } from "./conformance/rest.ts";
import { createContacts } from "./contacts/contact.ts";
import { toRelatedPeople } from "./contacts/mapping.ts";
import { createEverything, everythingOperation } from "./everything/everything.ts";
import { registerEverything } from "./everything/rest.ts";
import { createExports } from "./exports/client.ts";
import { exportOperations, registerExports } from "./exports/rest.ts";
import { createInvoices } from "./invoices/invoice.ts";
import { createMatch } from "./matches/match.ts";
import { matchOperation, registerMatch } from "./matches/rest.ts";
import { createPatients } from "./patients/client.ts";
import { createHistory } from "./patients/history.ts";
import { registerHistory } from "./patients/history-rest.ts";
import { toFhir } from "./patients/mapping.ts";
import { createPatientRules } from "./patients/patients.ts";
import { patientCapability, registerPatients } from "./patients/rest.ts";
import { createPatientSearch } from "./patients/search.ts";
import { registerPatientSearch } from "./patients/search-rest.ts";
import { createPayments } from "./payments/payment.ts";
import { createGroups, createPractitioners } from "./people/people.ts";
import { createAsk, createAskStream } from "./protocol/calls.ts";
import { outcomes } from "./protocol/outcome.ts";
import { describe, type Readers, registerReadable } from "./protocol/readable.ts";
import { root } from "./protocol/resource.ts";

type Options = {
  service: string;
  log: Logger;
  lifecycle: Lifecycle;
  verifier: Verifier;
  /** The gateway, as clients call it. */
  publicUrl: string;
  patientUrl: string;
  billingUrl: string;
  authUrl: string;
  analyticsUrl: string;
};

export function createFhirApp({ publicUrl, patientUrl, billingUrl, authUrl, analyticsUrl, ...parts }: Options) {
  const base = `${publicUrl}${root}`;
  const rest = createRestApp({ ...parts, ...about, errors: outcomes });
  const [patient, auth] = [createAsk(patientUrl), createAsk(authUrl)];
  const asks = { patient, auth, billing: createAsk(billingUrl), analytics: createAsk(analyticsUrl) };
  const patients = createPatients(patient);
  const shared = { base, patients, billing: createBilling(billingUrl), asks };
  const provenance = createProvenance(shared);
  const readables = [
    ...[createAccounts(shared), createCharges(shared), createInvoices(shared), createPayments(shared), createContacts(shared)],
    ...[createAuditEvents(shared), provenance.resource, createPractitioners(shared), createGroups(shared)],
    operationDefinitions,
  ];
  const readers: Readers = {
    Patient: async (call, id) => toFhir(await patients.get(call, id)),
    ...Object.fromEntries(readables.map(({ type, read }) => [type, read])),
  };
  const capabilities = [patientCapability, ...readables.map(describe)];
  registerConformance(rest, { base, capabilities, operations: [matchOperation, everythingOperation, ...exportOperations], auth });
  registerExports(rest, { base, exports: createExports(patient, createAskStream(patientUrl), auth) });
  registerHistory(rest, { base, history: createHistory(patients) });
  const referring = { provenanceOf: provenance.ofPatients, contactsOf: toRelatedPeople };
  registerPatientSearch(rest, { base, search: createPatientSearch(patients, base, referring) });
  const rules = createPatientRules(patients);
  registerPatients(rest, { base, patients: rules });
  registerMatch(rest, { base, match: createMatch(patients) });
  registerEverything(rest, { base, everything: createEverything(rules, readables) });
  registerBundles(rest, createTransactions({ base, patients, rules }));
  for (const one of readables) registerReadable(rest, base, readers, one);
  return rest.app;
}
