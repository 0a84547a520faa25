/** Which audit entry every operation of every service leaves. The compiler checks that none is missing. */
import { randomUUID } from "node:crypto";
import type { operations } from "@pm/kit/auth/access";
import { clientRows } from "./audit-clients.ts";
import { person } from "./client.ts";
import {
  type AuditRow,
  charge,
  dashboardCookie,
  deadLetter,
  done,
  enrolled,
  euros,
  freshEmail,
  get,
  ids,
  mailbox,
  mutation,
  newUser,
  own,
  password,
  post,
  rpc,
  stream,
  tokenOf,
  user,
  withSecondFactor,
} from "./scene.ts";

const page = "a page or a document without data of anybody";
const counts = "counts or ids for a service, and nothing else about a person";
const ownAccount = "shows callers their own account, and nobody else";
const noPerson = "has no data of a person";

export const auditTable: Record<keyof typeof operations, AuditRow> = {
  "patient.listPatients": { leaves: "patient.listed", by: () => get("/patients") },
  "patient.getPatient": { leaves: "patient.read", by: () => get(`/patients/${ids.patient}`) },
  "patient.readPatientHistory": { leaves: "patient.history_read", by: () => get(`/patients/${ids.patient}/history`) },
  "patient.readPatientAccess": { leaves: "patient.sharing_read", by: () => get(`/patients/${ids.patient}/access`) },
  "patient.exportPatients": { leaves: "patient.exported", by: () => get("/patients:export") },
  "patient.createPatient": { leaves: "patient.registered", by: () => post("/patients", person()) },
  "patient.replacePatient": {
    leaves: "patient.updated",
    by: () => ({ method: "PUT", path: `/patients/${ids.patient}`, body: person() }),
  },
  "patient.patchPatient": { leaves: "patient.read", by: () => ({ method: "PATCH", path: `/patients/${ids.patient}`, body: {} }) },
  "patient.deletePatient": {
    leaves: "patient.deleted",
    by: async () => ({ method: "DELETE", path: `/patients/${(await done(post("/patients", person()))).id}` }),
  },
  "patient.restorePatient": { leaves: "patient.read", by: () => post(`/patients/${ids.patient}:restore`) },
  "patient.replacePatientAccess": {
    leaves: "patient.shared",
    by: () => ({ method: "PUT", path: `/patients/${ids.patient}/access`, body: { users: [], teams: [] } }),
  },
  "patient.importPatients": {
    leaves: "import.begun",
    by: () => ({
      ...post("/patients:import?dryRun=true", `${JSON.stringify(person())}\n`),
      headers: { "content-type": "application/x-ndjson" },
    }),
  },
  "patient.readPatientTotals": { none: counts },
  "patient.listPatientIds": { none: counts },

  "auth.login": { leaves: "authn_login_success", by: () => post("/auth/login", { email: user.email, password }) },
  "auth.refresh": {
    leaves: "session_renewed",
    by: async () => {
      const { refreshToken } = await done(post("/auth/login", { email: user.email, password }));
      return post("/auth/refresh", { refreshToken });
    },
  },
  "auth.signup": { leaves: "authn_link_sent", by: () => post("/auth/signup", { email: freshEmail(), password, name: "Ada" }) },
  "auth.requestPasswordReset": { leaves: "authn_link_sent", by: () => post("/auth/password-reset", { email: user.email }) },
  "auth.passwordResetPage": { none: page },
  "auth.resetPassword": {
    leaves: "authn_password_change",
    by: async () => {
      const { email } = await newUser();
      await done(post("/auth/password-reset", { email }));
      return post("/auth/password-reset/confirm", { token: await mailbox.token(email, /password/i), password });
    },
  },
  "auth.invitePage": { none: page },
  "auth.acceptInvite": {
    leaves: "authn_password_change",
    by: async () => {
      const email = freshEmail();
      await done(post("/auth/users", { email, roles: ["user"] }));
      return post("/auth/invites/accept", { token: await mailbox.token(email, /./), password });
    },
  },
  "auth.jwks": { none: page },
  "auth.openidConfiguration": { none: page },
  "auth.authorizationServerMetadata": { none: page },
  "auth.revocations": { none: counts },
  "auth.logout": {
    leaves: "authn_token_revoked",
    by: async () => ({ ...post("/auth/logout", {}), token: await tokenOf(user) }),
  },
  "auth.validate": { none: ownAccount },
  "auth.me": { none: ownAccount },
  "auth.renameMe": { leaves: "user_updated", by: () => own({ method: "PATCH", path: "/auth/me", body: { name: "Grace" } }) },
  "auth.changePassword": {
    leaves: "authn_password_change",
    by: async () => {
      const { token } = await newUser();
      return { ...post("/auth/password", { currentPassword: password, newPassword: `another ${password}` }), token };
    },
  },
  "auth.changeEmail": { leaves: "authn_link_sent", by: () => own(post("/auth/email", { email: freshEmail(), password })) },
  "auth.confirmEmail": {
    leaves: "user_updated",
    by: async () => {
      const [{ token }, email] = [await newUser(), freshEmail()];
      await done({ ...post("/auth/email", { email, password }), token });
      return { ...post("/auth/email/confirm", { token: await mailbox.token(email, /./) }), token };
    },
  },
  "auth.enrolSecondFactor": { leaves: "authn_factor_started", by: () => own(post("/auth/mfa/totp", { password })) },
  "auth.confirmSecondFactor": { leaves: "authn_factor_added", by: enrolled },
  "auth.newRecoveryCodes": {
    leaves: "authn_recovery_codes_created",
    by: () => withSecondFactor("/auth/mfa/recovery-codes"),
  },
  "auth.removeSecondFactor": {
    leaves: "authn_factor_removed",
    by: () => withSecondFactor("/auth/mfa/totp:remove"),
  },
  "auth.listSessions": { leaves: "sensitive_read", by: () => own(get("/auth/sessions")) },
  "auth.endSession": {
    leaves: "authn_token_revoked",
    by: async () => {
      const token = await tokenOf(user);
      const { sid } = JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString());
      return own({ method: "DELETE", path: `/auth/sessions/${sid}` });
    },
  },
  "auth.endOtherSessions": {
    leaves: "authn_token_revoked",
    by: async () => {
      await tokenOf(user);
      return own(post("/auth/sessions:endOthers"));
    },
  },
  "auth.listUsers": { leaves: "sensitive_read", by: () => get("/auth/users") },
  "auth.createUser": { leaves: "user_created", by: () => post("/auth/users", { email: freshEmail(), password, roles: ["user"] }) },
  "auth.getUser": { leaves: "sensitive_read", by: () => get(`/auth/users/${user.id}`) },
  "auth.updateUser": { leaves: "sensitive_read", by: () => ({ method: "PATCH", path: `/auth/users/${user.id}`, body: {} }) },
  "auth.disableUser": { leaves: "user_disabled", by: async () => post(`/auth/users/${(await newUser()).id}:disable`) },
  "auth.enableUser": { leaves: "sensitive_read", by: () => post(`/auth/users/${user.id}:enable`) },
  "auth.sendUserLink": { leaves: "authn_link_sent", by: () => post(`/auth/users/${user.id}:sendLink`) },
  "auth.listUserSessions": { leaves: "sensitive_read", by: () => get(`/auth/users/${user.id}/sessions`) },
  "auth.endUserSessions": { leaves: "authn_token_revoked", by: async () => post(`/auth/users/${(await newUser()).id}:endSessions`) },
  "auth.removeUserSecondFactor": {
    leaves: "sensitive_read",
    by: async () => post(`/auth/users/${(await newUser()).id}:removeSecondFactor`),
  },
  "auth.listTeams": { none: noPerson },
  "auth.getTeam": { none: noPerson },
  "auth.createTeam": { leaves: "authz_team_created", by: () => post("/auth/teams", { name: `Ward ${randomUUID()}` }) },
  "auth.renameTeam": {
    leaves: "authz_team_updated",
    by: () => ({ method: "PATCH", path: `/auth/teams/${ids.team}`, body: { name: `Ward ${randomUUID()}` } }),
  },
  "auth.deleteTeam": {
    leaves: "authz_team_deleted",
    by: async () => ({ method: "DELETE", path: `/auth/teams/${(await done(post("/auth/teams", { name: randomUUID() }))).id}` }),
  },
  "auth.addTeamMember": {
    leaves: "authz_change",
    by: async () => ({ method: "PUT", path: `/auth/teams/${ids.team}/members/${(await newUser()).id}` }),
  },
  "auth.removeTeamMember": {
    leaves: "authz_change",
    by: async () => {
      const member = `/auth/teams/${ids.team}/members/${(await newUser()).id}`;
      await done({ method: "PUT", path: member });
      return { method: "DELETE", path: member };
    },
  },
  ...clientRows,
  "auth.listKeys": { none: noPerson },
  "auth.rotateKeys": { leaves: "crypt_key_rotated", by: () => post("/auth/keys:rotate") },

  "analytics.summarize": { leaves: "report.read", by: () => get("/analytics/summary") },
  "analytics.reportPatients": { leaves: "report.read", by: () => get("/analytics/patients") },
  "analytics.reportBilling": { leaves: "report.read", by: () => get("/analytics/billing") },
  "analytics.reportActivity": { leaves: "report.read", by: () => get("/analytics/activity") },
  "analytics.checkConsistency": { none: counts },
  "analytics.rebuild": { leaves: "rollups.rebuild-requested", by: () => post("/analytics:rebuild") },
  "analytics.getRebuild": { none: noPerson },
  "analytics.listDeadLetters": { leaves: "dead-letters.listed", by: () => get("/analytics/dead-letters") },
  "analytics.getDeadLetter": { leaves: "dead-letter.read", by: async () => get(`/analytics/dead-letters/${await deadLetter()}`) },
  "analytics.replayDeadLetter": {
    leaves: "dead-letter.replayed",
    by: async () => post(`/analytics/dead-letters/${await deadLetter()}:replay`),
  },
  "analytics.replayDeadLetters": { leaves: "dead-letters.replayed", by: () => post("/analytics/dead-letters:replay") },
  "analytics.discardDeadLetter": {
    leaves: "dead-letter.discarded",
    by: async () => post(`/analytics/dead-letters/${await deadLetter()}:discard`),
  },
  "analytics.dashboard": {
    leaves: "report.read",
    by: async () => ({ ...get("/analytics/dashboard"), headers: { cookie: await dashboardCookie() } }),
  },
  "analytics.dashboardLogin": { none: "signs in at auth, which leaves the entry" },
  "analytics.dashboardLogout": { none: "signs out at auth, which leaves the entry" },
  "analytics.dashboardFile": { none: page },

  "billing.v1.BillingService/CreateBillingAccount": {
    leaves: "account.opened",
    by: mutation("CreateBillingAccount", () => ({ patientId: randomUUID(), name: "Ada", email: "ada@example.com" })),
  },
  "billing.v1.BillingService/BatchCreateBillingAccounts": {
    leaves: "account.opened",
    by: () => rpc("BatchCreateBillingAccounts", { requests: [{ patientId: randomUUID(), name: "Ada", email: "ada@example.com" }] }),
  },
  "billing.v1.BillingService/GetBillingAccount": {
    leaves: "account.read",
    by: () => rpc("GetBillingAccount", { accountId: ids.account }),
  },
  "billing.v1.BillingService/ListBillingAccounts": { leaves: "accounts.listed", by: () => rpc("ListBillingAccounts", {}) },
  "billing.v1.BillingService/UpdateBillingAccount": {
    leaves: "account.read",
    by: mutation("UpdateBillingAccount", () => ({ account: { accountId: ids.account } })),
  },
  "billing.v1.BillingService/WatchAccount": { leaves: "account.watched", by: () => stream("WatchAccount", { accountId: ids.account }) },
  "billing.v1.BillingService/CreateCharge": {
    leaves: "charge.created",
    by: mutation("CreateCharge", () => ({ accountId: ids.account, amount: euros, description: "Visit" })),
  },
  "billing.v1.BillingService/VoidCharge": {
    leaves: "charge.voided",
    by: async () => {
      const made = await charge(ids.account);
      return rpc("VoidCharge", { chargeId: made.charge.chargeId, reason: "Mistake", requestId: randomUUID() });
    },
  },
  "billing.v1.BillingService/RecordPayment": {
    leaves: "payment.recorded",
    by: mutation("RecordPayment", () => ({ accountId: ids.account, amount: euros, method: "PAYMENT_METHOD_CASH" })),
  },
  "billing.v1.BillingService/ReallocatePayment": {
    leaves: "payment.reallocated",
    by: async () => {
      const { charge: open } = await charge(ids.account);
      return rpc("ReallocatePayment", {
        paymentId: ids.payment,
        allocations: [{ chargeId: open.chargeId, amount: { ...euros, minorUnits: "1" } }],
        requestId: randomUUID(),
      });
    },
  },
  "billing.v1.BillingService/RefundPayment": {
    leaves: "payment.refunded",
    by: mutation("RefundPayment", () => ({ paymentId: ids.payment, amount: { ...euros, minorUnits: "1" }, reason: "Mistake" })),
  },
  "billing.v1.BillingService/ListCharges": { leaves: "charges.listed", by: () => rpc("ListCharges", { accountId: ids.account }) },
  "billing.v1.BillingService/ListPayments": { leaves: "payments.listed", by: () => rpc("ListPayments", { accountId: ids.account }) },
  "billing.v1.BillingService/CreateInvoice": {
    leaves: "invoice.created",
    by: async () => {
      await charge(ids.account);
      return rpc("CreateInvoice", { accountId: ids.account, requestId: randomUUID() });
    },
  },
  "billing.v1.BillingService/IssueInvoice": {
    leaves: "invoice.issued",
    by: mutation("IssueInvoice", () => ({ invoiceId: ids.invoice })),
  },
  "billing.v1.BillingService/VoidInvoice": {
    leaves: "invoice.voided",
    by: async () => {
      await charge(ids.account);
      const { invoice } = await done(rpc("CreateInvoice", { accountId: ids.account, requestId: randomUUID() }));
      return rpc("VoidInvoice", { invoiceId: invoice.invoiceId, reason: "Mistake", requestId: randomUUID() });
    },
  },
  "billing.v1.BillingService/GetInvoice": { leaves: "invoice.read", by: () => rpc("GetInvoice", { invoiceId: ids.invoice }) },
  "billing.v1.BillingService/ListInvoices": { leaves: "invoices.listed", by: () => rpc("ListInvoices", { accountId: ids.account }) },
  "billing.v1.BillingService/ListTransactions": {
    leaves: "transactions.listed",
    by: () => rpc("ListTransactions", { accountId: ids.account }),
  },
  "billing.v1.BillingService/GetStatement": {
    leaves: "statement.read",
    by: () => rpc("GetStatement", { accountId: ids.account, fromDate: "2026-01-01", toDate: "2026-12-31" }),
  },
  "billing.showInvoice": { leaves: "invoice.read", by: () => get(`/billing/invoices/${ids.invoice}?format=pdf`) },
  "billing.showStatement": {
    leaves: "statement.read",
    by: () => get(`/billing/statements/${ids.account}?from=2026-01-01&to=2026-12-31&format=json`),
  },
  "billing.readBillingTotals": { none: counts },
};
