/**
 * Who may do what, as one table: role → scopes, operation → scope. Code, OpenAPI documents, documentation and the
 * access-coverage test all read it. An operation that is not here cannot be registered.
 */

export const roles = {
  admin: [
    "patient:read",
    "patient:write",
    "patient:all",
    "billing:read",
    "billing:write",
    "analytics:read",
    "analytics:detail",
    "analytics:admin",
    "user:admin",
  ],
  user: ["patient:read", "patient:write"],
  // Billing clerks bill every patient, so they see every patient.
  billing: ["billing:read", "billing:write", "patient:read", "patient:all"],
  analyst: ["analytics:read"],
} as const;

export type Role = keyof typeof roles;
export type Scope = (typeof roles)[Role][number] | ServiceScope;

/** Scopes that no person has. `auth:internal` is for what services ask of auth, `internal:totals` for the consistency check. */
export type ServiceScope = "auth:internal" | "internal:totals";

/** What each service may do when it acts for itself. */
export const services = {
  patient: ["billing:read", "billing:write", "auth:internal"],
  billing: ["patient:read", "patient:all", "auth:internal", "internal:totals"],
  analytics: ["auth:internal", "internal:totals"],
} as const satisfies Record<string, readonly Scope[]>;

export type ServiceName = keyof typeof services;

/** `public`: anybody. `signed-in`: any valid token. Otherwise the scope that the token must have. */
export type Access = "public" | "signed-in" | Scope;

/** Every operation of every service: `<service>.<operationId>` for REST, the full method name for gRPC. */
export const operations = {
  "patient.listPatients": "patient:read",
  "patient.getPatient": "patient:read",
  "patient.createPatient": "patient:write",

  "auth.login": "public",
  "auth.refresh": "public",
  "auth.logout": "signed-in",
  "auth.validate": "signed-in",
  "auth.me": "signed-in",
  "auth.jwks": "public",
  "auth.openidConfiguration": "public",
  // By client id and secret; the gateway has no route to it.
  "auth.issueServiceToken": "public",

  "analytics.reportPatients": "analytics:read",

  "billing.v1.BillingService/CreateBillingAccount": "billing:write",
  "billing.v1.BillingService/BatchCreateBillingAccounts": "billing:write",
  "billing.v1.BillingService/GetBillingAccount": "billing:read",
} as const satisfies Record<string, Access>;

export type Operation = keyof typeof operations;

/** The access of an operation by its name, or undefined where the table does not have it. */
export function accessOf(operation: string): Access | undefined {
  return (operations as Record<string, Access>)[operation];
}
