/**
 * Who may do what, in one table: role → scopes, operation → scope. Code, OpenAPI documents, documentation and the
 * access-coverage test all read it. An operation that is not listed here cannot be registered.
 */

export const roles = {
  admin: [
    "patient:read",
    "patient:write",
    "patient:all",
    "patient:erase",
    "patient:merge",
    "billing:read",
    "billing:write",
    "analytics:read",
    "analytics:detail",
    "analytics:admin",
    "user:admin",
  ],
  // The clinical staff. In an emergency they open a record that nobody has shared with them.
  user: ["patient:read", "patient:write", "patient:emergency"],
  // Billing clerks bill every patient, so they see every patient.
  billing: ["billing:read", "billing:write", "patient:read", "patient:all"],
  analyst: ["analytics:read"],
  // Reads who did what in every service, and no record.
  auditor: ["audit:read"],
} as const;

export type Role = keyof typeof roles;
export type Scope = (typeof roles)[Role][number] | ServiceScope;

/**
 * What an administrator may give to an API client: all but `user:admin`, by which it could give itself anything, and
 * `patient:erase`, which needs a person with a second factor.
 */
export const clientScopes = [...roles.admin, ...roles.auditor].filter((scope) => scope !== "user:admin" && scope !== "patient:erase");
export type ClientScope = (typeof clientScopes)[number];

/**
 * Scopes that no person has. `auth:internal` is for requests of services to auth, `internal:totals` for the consistency
 * check, `internal:links` for linking the accounts of records that were merged, `internal:erasure` for the erasure of a
 * patient in billing and analytics.
 */
const serviceScopes = ["auth:internal", "internal:totals", "internal:links", "internal:erasure"] as const;
type ServiceScope = (typeof serviceScopes)[number];

/** What each service may do when it acts on its own behalf. */
export const services = {
  patient: ["billing:read", "billing:write", "internal:links", "internal:erasure", "auth:internal"],
  billing: ["patient:read", "patient:all", "auth:internal", "internal:totals"],
  analytics: ["auth:internal", "internal:totals"],
} as const satisfies Record<string, readonly Scope[]>;

export type ServiceName = keyof typeof services;

/** Whose a token is. Its `sub` tells: a user's id, `client:<id>` of an API client, or `service:<name>`. */
export type CallerKind = "user" | "client" | "service";

export const clientSubject = (id: string) => `client:${id}`;
export const serviceSubject = (name: ServiceName) => `service:${name}`;

export function kindOf(subject: string): CallerKind {
  if (subject.startsWith("service:")) return "service";
  return subject.startsWith("client:") ? "client" : "user";
}

/** `public`: anybody. `signed-in`: any valid token. Else the scope that the token must have. */
export type Access = "public" | "signed-in" | Scope;

/** Whether only services may call an operation with this access. */
export function isForServicesOnly(access: Access): boolean {
  return (serviceScopes as readonly string[]).includes(access);
}

type ReadOperation<Type extends string> = `fhir.read${Type}` | `fhir.search${Type}` | `fhir.search${Type}ByForm`;

/** The operations of FHIR on types of resources that are only read (services/fhir/src/protocol/readable.ts). */
function readable<Type extends string>(...types: Type[]): Record<ReadOperation<Type>, "signed-in"> {
  const names = types.flatMap((type) => [`fhir.read${type}`, `fhir.search${type}`, `fhir.search${type}ByForm`] as ReadOperation<Type>[]);
  return Object.fromEntries(names.map((name) => [name, "signed-in"])) as Record<ReadOperation<Type>, "signed-in">;
}

/** The operations on the audit trail of a service (packages/kit/src/auditor/rest.ts). */
function trailOf<Service extends string>(service: Service) {
  const names = ["listAuditEntries", "exportAuditEntries", "verifyAuditTrail"] as const;
  const entries = names.map((name) => [`${service}.${name}`, "audit:read"]);
  return Object.fromEntries(entries) as Record<`${Service}.${(typeof names)[number]}`, "audit:read">;
}

/** Every operation of every service: `<service>.<operationId>` for REST, the full method name for gRPC. */
export const operations = {
  "patient.listPatients": "patient:read",
  "patient.searchPatients": "patient:read",
  "patient.getPatient": "patient:read",
  "patient.readPatientHistory": "patient:read",
  "patient.readPatientVersion": "patient:read",
  "patient.followPatients": "patient:read",
  "patient.readPatientAccess": "patient:read",
  "patient.exportPatients": "patient:read",
  "patient.createExport": "patient:read",
  "patient.readExport": "patient:read",
  "patient.readExportedPatients": "patient:read",
  "patient.readExportedDeletions": "patient:read",
  "patient.deleteExport": "patient:read",
  "patient.createPatient": "patient:write",
  "patient.batchPatients": "patient:write",
  "patient.replacePatient": "patient:write",
  "patient.patchPatient": "patient:write",
  "patient.deletePatient": "patient:write",
  "patient.restorePatient": "patient:write",
  // Also need write access to both records.
  "patient.mergePatients": "patient:merge",
  "patient.unmergePatients": "patient:merge",
  "patient.replacePatientAccess": "patient:write",
  // Also needs patient:all (services/patient/src/patients/sharing.ts).
  "patient.transferPatients": "patient:write",
  "patient.matchPatients": "patient:read",
  "patient.listDuplicates": "patient:read",
  "patient.dismissDuplicate": "patient:write",
  // Also needs a second factor (services/patient/src/erasure/erasures.ts).
  "patient.erasePatient": "patient:erase",
  "patient.readErasure": "patient:erase",
  "patient.readLegalHold": "patient:erase",
  "patient.placeLegalHold": "patient:erase",
  "patient.endLegalHold": "patient:erase",
  "patient.importPatients": "patient:write",
  "patient.listImports": "patient:write",
  "patient.readImport": "patient:write",
  "patient.readImportErrors": "patient:write",
  "patient.cancelImport": "patient:write",
  "patient.readPatientDisclosures": "audit:read",
  "patient.listEmergencies": "audit:read",
  ...trailOf("patient"),
  "patient.readPatientTotals": "internal:totals",
  "patient.listPatientIds": "internal:totals",

  "auth.login": "public",
  "auth.refresh": "public",
  // Takes a refresh token, because the access token may have expired.
  "auth.logout": "public",
  "auth.signup": "public",
  "auth.requestPasswordReset": "public",
  "auth.passwordResetPage": "public",
  "auth.resetPassword": "public",
  "auth.invitePage": "public",
  "auth.acceptInvite": "public",
  "auth.jwks": "public",
  "auth.openidConfiguration": "public",
  "auth.authorizationServerMetadata": "public",
  // Needs what a client proves itself by.
  "auth.issueToken": "public",
  // The gateway has no route to it.
  "auth.revocations": "auth:internal",
  "auth.validate": "signed-in",
  "auth.me": "signed-in",
  "auth.renameMe": "signed-in",
  "auth.changePassword": "signed-in",
  "auth.changeEmail": "signed-in",
  "auth.confirmEmail": "signed-in",
  "auth.enrolSecondFactor": "signed-in",
  "auth.confirmSecondFactor": "signed-in",
  "auth.newRecoveryCodes": "signed-in",
  "auth.removeSecondFactor": "signed-in",
  "auth.listSessions": "signed-in",
  "auth.endSession": "signed-in",
  "auth.endOtherSessions": "signed-in",
  "auth.listUsers": "user:admin",
  "auth.createUser": "user:admin",
  "auth.getUser": "user:admin",
  "auth.updateUser": "user:admin",
  "auth.disableUser": "user:admin",
  "auth.enableUser": "user:admin",
  "auth.sendUserLink": "user:admin",
  "auth.listUserSessions": "user:admin",
  "auth.endUserSessions": "user:admin",
  "auth.removeUserSecondFactor": "user:admin",
  // Also needs any scope (services/auth/src/users/people-rest.ts).
  "auth.listPeople": "signed-in",
  // To share a patient with a team, callers have to find the team.
  "auth.listTeams": "patient:read",
  "auth.getTeam": "patient:read",
  "auth.createTeam": "user:admin",
  "auth.renameTeam": "user:admin",
  "auth.deleteTeam": "user:admin",
  "auth.addTeamMember": "user:admin",
  "auth.removeTeamMember": "user:admin",
  "auth.listApiClients": "user:admin",
  "auth.createApiClient": "user:admin",
  "auth.getApiClient": "user:admin",
  "auth.updateApiClient": "user:admin",
  "auth.rotateApiClientSecret": "user:admin",
  "auth.disableApiClient": "user:admin",
  "auth.enableApiClient": "user:admin",
  "auth.deleteApiClient": "user:admin",
  "auth.listKeys": "user:admin",
  "auth.rotateKeys": "user:admin",
  ...trailOf("auth"),

  "analytics.summarize": "analytics:read",
  "analytics.reportPatients": "analytics:read",
  "analytics.reportBilling": "analytics:read",
  "analytics.reportActivity": "analytics:read",
  "analytics.checkConsistency": "analytics:detail",
  "analytics.readErasure": "internal:erasure",
  "analytics.rebuild": "analytics:admin",
  "analytics.getRebuild": "analytics:admin",
  "analytics.listDeadLetters": "analytics:admin",
  "analytics.getDeadLetter": "analytics:admin",
  "analytics.replayDeadLetter": "analytics:admin",
  "analytics.replayDeadLetters": "analytics:admin",
  "analytics.discardDeadLetter": "analytics:admin",
  ...trailOf("analytics"),
  // People sign in by a form; the pages verify the cookie themselves.
  "analytics.dashboard": "public",
  "analytics.dashboardLogin": "public",
  "analytics.dashboardLogout": "public",
  "analytics.dashboardFile": "public",

  // FHIR passes each request on as its caller. The services behind it decide, and audit.
  "fhir.readMetadata": "public",
  "fhir.readSmartConfiguration": "public",
  "fhir.readPatient": "signed-in",
  "fhir.processBundle": "signed-in",
  "fhir.exportSystem": "signed-in",
  "fhir.exportPatients": "signed-in",
  "fhir.exportGroup": "signed-in",
  "fhir.readExport": "signed-in",
  "fhir.readExportFile": "signed-in",
  "fhir.cancelExport": "signed-in",
  ...readable("Account", "ChargeItem", "Invoice", "PaymentReconciliation", "RelatedPerson"),
  ...readable("AuditEvent", "Provenance", "Practitioner", "Group", "OperationDefinition"),
  "fhir.searchPatients": "signed-in",
  "fhir.searchPatientsByForm": "signed-in",
  "fhir.createPatient": "signed-in",
  "fhir.updatePatient": "signed-in",
  "fhir.updatePatientWhere": "signed-in",
  "fhir.patchPatient": "signed-in",
  "fhir.deletePatient": "signed-in",
  "fhir.deletePatientWhere": "signed-in",
  "fhir.readPatientVersion": "signed-in",
  "fhir.readPatientHistory": "signed-in",
  "fhir.readHistoryOfPatients": "signed-in",
  "fhir.matchPatient": "signed-in",
  "fhir.readEverything": "signed-in",
  "fhir.readEverythingByForm": "signed-in",

  "billing.v1.BillingService/CreateBillingAccount": "billing:write",
  "billing.v1.BillingService/BatchCreateBillingAccounts": "billing:write",
  // Callers without the scope may see the accounts of patients that they may see (services/billing/src/rpc.ts).
  "billing.v1.BillingService/GetBillingAccount": "billing:read",
  "billing.v1.BillingInternalService/GetErasureHolds": "internal:erasure",
  "billing.v1.BillingInternalService/RestrictParty": "internal:erasure",
  "billing.v1.BillingInternalService/EraseParty": "internal:erasure",
  "billing.v1.BillingService/ListBillingAccounts": "billing:read",
  "billing.v1.BillingService/UpdateBillingAccount": "billing:write",
  "billing.v1.BillingInternalService/LinkAccounts": "internal:links",
  "billing.v1.BillingInternalService/UnlinkAccounts": "internal:links",
  "billing.v1.BillingService/WatchAccount": "billing:read",
  "billing.v1.BillingService/CreatePayer": "billing:write",
  "billing.v1.BillingService/GetPayer": "billing:read",
  "billing.v1.BillingService/ListPayers": "billing:read",
  "billing.v1.BillingService/UpdatePayer": "billing:write",
  "billing.v1.BillingService/GetPayerBalance": "billing:read",
  "billing.v1.BillingService/CreateCharge": "billing:write",
  "billing.v1.BillingService/ReallocatePayment": "billing:write",
  "billing.v1.BillingService/DiscountInvoice": "billing:write",
  "billing.v1.BillingService/CreateCreditNote": "billing:write",
  "billing.v1.BillingService/GetCreditNote": "billing:read",
  "billing.v1.BillingService/ListCreditNotes": "billing:read",
  "billing.v1.BillingService/WriteOff": "billing:write",
  "billing.v1.BillingService/VoidCharge": "billing:write",
  "billing.v1.BillingService/RecordPayment": "billing:write",
  "billing.v1.BillingService/RefundPayment": "billing:write",
  "billing.v1.BillingService/GetCharge": "billing:read",
  "billing.v1.BillingService/ListCharges": "billing:read",
  "billing.v1.BillingService/GetPayment": "billing:read",
  "billing.v1.BillingService/ListPayments": "billing:read",
  "billing.v1.BillingService/CreateInvoice": "billing:write",
  "billing.v1.BillingService/IssueInvoice": "billing:write",
  "billing.v1.BillingService/VoidInvoice": "billing:write",
  "billing.v1.BillingService/GetInvoice": "billing:read",
  "billing.v1.BillingService/ListInvoices": "billing:read",
  "billing.v1.BillingService/ListTransactions": "billing:read",
  "billing.v1.BillingService/GetStatement": "billing:read",
  "billing.v1.BillingService/StreamStatement": "billing:read",
  "billing.showInvoice": "billing:read",
  "billing.showCreditNote": "billing:read",
  "billing.showStatement": "billing:read",
  "billing.showPayerStatement": "billing:read",
  "billing.exportJournal": "billing:read",
  "billing.exportTaxSummary": "billing:read",
  "billing.readGeneralLedger": "billing:read",
  ...trailOf("billing"),
  "billing.readBillingTotals": "internal:totals",
} as const satisfies Record<string, Access>;

/** The access of an operation by its name; undefined if the table does not list it. */
export function accessOf(operation: string): Access | undefined {
  return (operations as Record<string, Access>)[operation];
}
