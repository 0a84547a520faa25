/** Which audit entry every operation of every service leaves. The compiler checks that none is missing. */
import { randomUUID } from "node:crypto";
import type { operations } from "@pm/kit/auth/access";
import { auditTableOfAuditors } from "./audit-table-auditors.ts";
import { type AuditRow, auditTableOfBilling } from "./audit-table-billing.ts";
import { auditTableOfClients } from "./audit-table-clients.ts";
import { auditTableOfFhir } from "./audit-table-fhir.ts";
import { person } from "./client.ts";
import {
  dashboardCookie,
  deadLetter,
  done,
  enrolled,
  erasure,
  freshEmail,
  get,
  ids,
  mailbox,
  newMember,
  newPair,
  newUser,
  own,
  ownerOfPatient,
  password,
  post,
  tokenOf,
  user,
  withSecondFactor,
} from "./scene.ts";

const page = "a page or a document without data of anybody";
const ownImports = "counts and mistakes of the caller's own imports; ending one leaves import.cancelled (progress.int.test.ts)";
const counts = "counts or ids for a service, and nothing else about a person";
const ownExports = "how far the caller's own export is, and nothing about a person";
const ownAccount = "shows callers their own account, and nobody else";
const noPerson = "has no data of a person";

const newPatient = async (): Promise<string> => (await done(post("/patients", person()))).id;
/** A call about an export of a new user. */
const ofExport =
  (method: string, stream = "") =>
  async () => {
    const { token } = await newUser();
    const { exportId } = await done({ ...post("/patients/exports", {}), token });
    return { method, path: `/patients/exports/${exportId}${stream}`, token };
  };
const mergeOf = (survivor: string, duplicate: string) => ({
  ...post(`/patients/${survivor}:merge`, { duplicateId: duplicate, duplicateVersion: 1 }),
  headers: { "if-match": '"1"' },
});

export const auditTable: Record<keyof typeof operations, AuditRow> = {
  "patient.listPatients": { leaves: "patient.listed", by: () => get("/patients") },
  "patient.searchPatients": {
    leaves: "patient.listed",
    by: () => post("/patients:search", { where: [{ field: "family", anyOf: ["a"] }] }),
  },
  "patient.getPatient": { leaves: "patient.read", by: () => get(`/patients/${ids.patient}`) },
  "patient.readPatientHistory": { leaves: "patient.history_read", by: () => get(`/patients/${ids.patient}/history`) },
  "patient.readPatientVersion": { leaves: "patient.version_read", by: () => get(`/patients/${ids.patient}/versions/1`) },
  "patient.followPatients": { leaves: "patient.changes_read", by: () => get("/patients/changes?limit=1") },
  "patient.readPatientAccess": { leaves: "patient.sharing_read", by: () => get(`/patients/${ids.patient}/access`) },
  "patient.exportPatients": { leaves: "patient.exported", by: () => get("/patients:export") },
  "patient.createExport": { leaves: "export.created", by: () => post("/patients/exports", {}) },
  "patient.readExport": { none: ownExports },
  "patient.readExportedPatients": { leaves: "patient.exported", by: ofExport("GET", "/patients") },
  "patient.readExportedDeletions": { leaves: "patient.exported", by: ofExport("GET", "/deletions") },
  "patient.deleteExport": { leaves: "export.deleted", by: ofExport("DELETE") },
  "patient.createPatient": { leaves: "patient.registered", by: () => post("/patients", person()) },
  "patient.batchPatients": {
    leaves: "patient.registered",
    by: () => post("/patients:batch", { operations: [{ method: "create", body: person() }] }),
  },
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
  "patient.mergePatients": {
    leaves: "patient.merged",
    by: async () => mergeOf(await newPatient(), await newPatient()),
  },
  "patient.unmergePatients": {
    leaves: "patient.unmerged",
    by: async () => {
      const [survivor, duplicate] = [await newPatient(), await newPatient()];
      await done(mergeOf(survivor, duplicate));
      return post(`/patients/${survivor}:unmerge`, { duplicateId: duplicate });
    },
  },
  "patient.replacePatientAccess": {
    leaves: "patient.shared",
    by: () => ({ method: "PUT", path: `/patients/${ids.patient}/access`, body: { users: [], teams: [] } }),
  },
  "patient.transferPatients": {
    leaves: "patient.owner_changed",
    by: async () => post("/patients:transfer", { from: await ownerOfPatient(), to: user.id }),
  },
  "patient.erasePatient": { leaves: "patient.restricted", by: erasure },
  "patient.readErasure": {
    leaves: "patient.erasure_read",
    by: async () => {
      const { patientId, ...erase } = await erasure();
      await done(erase);
      return get(`/patients/${patientId}/erasure`);
    },
  },
  "patient.placeLegalHold": {
    leaves: "patient.hold_placed",
    by: () => ({ method: "PUT", path: `/patients/${ids.patient}/hold`, body: { reason: "A court asks for it" } }),
  },
  "patient.readLegalHold": { leaves: "patient.hold_read", by: () => get(`/patients/${ids.patient}/hold`) },
  "patient.endLegalHold": { leaves: "patient.hold_ended", by: () => ({ method: "DELETE", path: `/patients/${ids.patient}/hold` }) },
  "patient.matchPatients": { leaves: "patient.matched", by: () => post("/patients:match", { name: "Ada Lovelace" }) },
  "patient.listDuplicates": { leaves: "patient.duplicates_listed", by: () => get("/patients/duplicates") },
  "patient.dismissDuplicate": {
    leaves: "patient.duplicate_dismissed",
    by: async () => post(`/patients/duplicates/${await newPair()}:dismiss`),
  },
  "patient.importPatients": {
    leaves: "import.begun",
    by: () => ({
      ...post("/patients:import?dryRun=true", `${JSON.stringify(person())}\n`),
      headers: { "content-type": "application/x-ndjson" },
    }),
  },
  "patient.listImports": { none: ownImports },
  "patient.readImport": { none: ownImports },
  "patient.readImportErrors": { none: ownImports },
  "patient.cancelImport": { none: ownImports },
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
  "auth.listPeople": { none: "shows names of users to those who work with them" },
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
  "auth.addTeamMember": { leaves: "authz_change", by: newMember },
  "auth.removeTeamMember": {
    leaves: "authz_change",
    by: async () => {
      const call = await newMember();
      await done(call);
      return { ...call, method: "DELETE" };
    },
  },
  ...auditTableOfClients,
  "auth.listKeys": { none: noPerson },
  "auth.rotateKeys": { leaves: "crypt_key_rotated", by: () => post("/auth/keys:rotate") },

  "analytics.summarize": { leaves: "report.read", by: () => get("/analytics/summary") },
  "analytics.reportPatients": { leaves: "report.read", by: () => get("/analytics/patients") },
  "analytics.reportBilling": { leaves: "report.read", by: () => get("/analytics/billing") },
  "analytics.reportActivity": { leaves: "report.read", by: () => get("/analytics/activity") },
  "analytics.checkConsistency": { none: counts },
  "analytics.readErasure": { none: counts },
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

  ...auditTableOfBilling,
  ...auditTableOfAuditors,
  ...auditTableOfFhir,
};
