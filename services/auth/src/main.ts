/** Auth: all its parts, in the order in which they are built. They close in the reverse order. */
import { registerTrail } from "@pm/kit/auditor/rest";
import { followRevocations } from "@pm/kit/auth/revocations";
import { createVerifier } from "@pm/kit/auth/verifier";
import { createCursors } from "@pm/kit/cursor";
import { createEncryptor } from "@pm/kit/encryption";
import { createRestApp } from "@pm/kit/http/rest";
import { listenHttp } from "@pm/kit/http/server";
import { startService } from "@pm/kit/service";
import { createAccounts } from "./account/account.ts";
import { createAfterResponse } from "./account/after-response.ts";
import { registerLinks } from "./account/link-rest.ts";
import { createPasswordReset } from "./account/password-reset.ts";
import { registerAccounts } from "./account/rest.ts";
import { registerSecondFactor } from "./account/second-factor-rest.ts";
import { createSecondFactorSetup } from "./account/second-factor-setup.ts";
import { createSignup } from "./account/signup.ts";
import { startFirstAdmin } from "./admin/first-admin.ts";
import { createInvitations } from "./admin/invitations.ts";
import { createTeams } from "./admin/teams.ts";
import { registerTeams } from "./admin/teams-rest.ts";
import { createUsers } from "./admin/users.ts";
import { registerUsers } from "./admin/users-rest.ts";
import { startCleanup } from "./cleanup.ts";
import { createContextReader } from "./client-address.ts";
import { createClientTokens } from "./clients/client-tokens.ts";
import { createClients } from "./clients/clients.ts";
import { registerOAuth, tokenEndpoint } from "./clients/oauth-rest.ts";
import { registerClients } from "./clients/rest.ts";
import { readConfig } from "./config.ts";
import { createMailer } from "./mail/mailer.ts";
import { createMailMessages } from "./mail/messages.ts";
import { createPasswords, hashesAtOnce } from "./passwords/hashing.ts";
import { createCredentials } from "./sessions/credentials.ts";
import { createRefresh } from "./sessions/refresh.ts";
import { registerSessions } from "./sessions/rest.ts";
import { createRevocationSnapshot } from "./sessions/revocations.ts";
import { createSessions } from "./sessions/sessions.ts";
import { createThrottle } from "./sessions/throttle.ts";
import { createTokenPairs } from "./sessions/token-pair.ts";
import type { AuthTables } from "./tables.ts";
import { createServiceClients, createTokens } from "./tokens/access-tokens.ts";
import { registerKeys } from "./tokens/rest.ts";
import { createSigningKeys, startKeyMaintenance } from "./tokens/signing-keys.ts";
import { createUnitOfWork } from "./unit-of-work.ts";
import { registerPeople } from "./users/people-rest.ts";
import { createSecondFactors } from "./users/second-factor.ts";

const config = readConfig();
const { AUTH_ISSUER: issuer, AUTH_AUDIENCE: audience, ACCESS_TOKEN_SECONDS: tokenSeconds, KEY_ENCRYPTION_KEY: secret } = config;
const idleSeconds = config.SESSION_IDLE_SECONDS;
const now = Date.now;
const parts = startService<AuthTables>({ service: "auth", config, lingerMs: 25 });
const { service, log, lifecycle, settings, db, kafka, audit, relay } = parts;

const revocationSnapshot = createRevocationSnapshot({ db, tokenSeconds, now });
const revocations = followRevocations({ service, kafka, fetchSnapshot: revocationSnapshot, log, lifecycle });
const unitOfWork = createUnitOfWork({ db, tokenSeconds, now, wake: relay.wake, onRevoked: revocations.add });

// Signing keys, and the first administrator
const keys = createSigningKeys({
  ...{ db, unitOfWork, tokenSeconds, now },
  encryptor: createEncryptor(secret, "signing keys"),
  publishSeconds: config.KEY_PUBLISH_SECONDS,
  rotationSeconds: config.KEY_ROTATION_SECONDS,
});
startKeyMaintenance(keys, { log, lifecycle });
const tokens = createTokens({ keys, issuer, audience, lifetimeSeconds: tokenSeconds, now });
const serviceClients = createServiceClients({
  patient: config.PATIENT_CLIENT_SECRET,
  billing: config.BILLING_CLIENT_SECRET,
  analytics: config.ANALYTICS_CLIENT_SECRET,
});
const passwords = await createPasswords({ concurrency: hashesAtOnce, maxQueue: config.PASSWORD_QUEUE });
startFirstAdmin({ db, unitOfWork, passwords, email: config.ADMIN_EMAIL, password: config.ADMIN_PASSWORD, log, lifecycle });

// Sign-in and sessions
const secondFactors = createSecondFactors({
  ...{ db, now },
  encryptor: createEncryptor(secret, "second factors"),
  policy: config.SECOND_FACTOR_REQUIRED,
  issuer: "Patient Management",
});
const throttle = createThrottle({ db, secret });
const credentials = createCredentials({ db, unitOfWork, passwords, throttle, secondFactors, now });
const issueTokenPair = createTokenPairs({ tokens, secondFactors });
const sessions = createSessions({
  ...{ db, unitOfWork, passwords, credentials, issueTokenPair, tokenSeconds, idleSeconds, now },
  maxSeconds: config.SESSION_MAX_SECONDS,
});
const refresh = createRefresh({
  ...{ db, unitOfWork, issueTokenPair, tokenSeconds, idleSeconds, now },
  graceSeconds: config.REFRESH_GRACE_SECONDS,
});

// What users do with their own account
const mailer = createMailer({ url: config.MAIL_URL, from: config.MAIL_FROM, log });
lifecycle.onClose("mail", () => mailer.close());
const messages = createMailMessages(mailer, config.LINK_BASE_URL ?? issuer);
const afterResponse = createAfterResponse(log);
lifecycle.onClose("work after responses", () => afterResponse.close());
const signup = createSignup({
  ...{ db, unitOfWork, passwords, throttle, messages, afterResponse },
  policy: config.SIGNUP,
  roles: config.SIGNUP_ROLE === "none" ? [] : [config.SIGNUP_ROLE],
});
const passwordReset = createPasswordReset({ db, unitOfWork, passwords, throttle, messages, afterResponse });
const accounts = createAccounts({ db, unitOfWork, passwords, credentials, sessions, throttle, messages, afterResponse });
const secondFactorSetup = createSecondFactorSetup({ db, unitOfWork, credentials, throttle, secondFactors, messages });

// What administrators do with all accounts
const cursors = createCursors(config.CURSOR_KEY);
const users = createUsers({ db, unitOfWork, secondFactors, messages, cursors, now });
const invitations = createInvitations({ unitOfWork, passwords, messages });
const teams = createTeams({ db, unitOfWork, cursors });

// Programs that act without a person
const clients = createClients({ db, unitOfWork, cursors, now });
const audiences = [issuer, tokenEndpoint(issuer)];
const clientTokens = createClientTokens({ db, unitOfWork, throttle, audit, tokens, audiences, now });
startCleanup({ db, settings, idleSeconds, log, lifecycle });

const verifier = createVerifier({ keys: keys.resolve, issuer, audience, revocations });
const description = "Accounts, sign-in, sessions and the keys of access tokens.";
const rest = createRestApp({ service, title: "Auth", description, log, lifecycle, verifier, audit });
const contextOf = createContextReader(config.GATEWAY_NETWORKS, config.GATEWAY_SECRET);
registerSessions(rest, { sessions, refresh, revocationSnapshot, verifier, contextOf });
registerLinks(rest, { signup, passwordReset, contextOf });
registerAccounts(rest, { accounts, sessions, audit, contextOf });
registerSecondFactor(rest, { secondFactorSetup, contextOf });
registerUsers(rest, { users, invitations, sessions, audit, contextOf });
registerTeams(rest, { teams, contextOf });
registerPeople(rest, db);
registerClients(rest, { clients, contextOf });
registerKeys(rest, { keys, contextOf });
registerTrail(rest, { service, db, audit });
registerOAuth(rest, { tokens, clientTokens, serviceClients, issuer, contextOf });
await listenHttp({ app: rest.app, host: config.HOST, port: config.PORT, log, lifecycle });
