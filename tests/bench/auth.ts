/** Logging in, refreshing and verifying tokens, and the memory of auth after all of it. */
import { randomUUID } from "node:crypto";
import { createRevocationList } from "@pm/kit/auth/revocation-list";
import { createVerifier } from "@pm/kit/auth/verifier";
import type { Rows } from "./context.ts";
import type { Row } from "./measure.ts";
import { residentMiB } from "./processes.ts";

/** Each of these clients logs in as another user, because auth limits the parallel attempts of one user. */
const atOnce = 12;
const verifications = 1_000;
const maxMemoryMiB = 150;

export const rows: Rows = async ({ platform, processes, baselines, http, token }) => {
  const { auth } = platform.services;
  const people = Array.from({ length: atOnce }, () => ({ email: `${randomUUID()}@example.com`, password: randomUUID() }));
  const login: Row = {
    name: "log in",
    concurrency: atOnce,
    warmUpSeconds: 12,
    seconds: 18,
    turns: 6,
    prepare: async () => {
      for (const person of people)
        await http(auth.url, "POST", "/auth/users", { body: { ...person, name: "Bench", roles: ["user"] }, status: 201 });
    },
    request: (worker) => http(auth.url, "POST", "/auth/login", { body: people[worker], anonymous: true }),
    baseline: baselines.argon2,
    aims: { minRate: 0.8 },
  };

  const refreshTokens: string[] = [];
  const refresh: Row = {
    name: "refresh",
    prepare: async () => {
      for (let i = 0; i < 16; i++) {
        const answer = await http(auth.url, "POST", "/auth/login", { body: platform.admin, anonymous: true });
        refreshTokens.push((JSON.parse(answer) as { refreshToken: string }).refreshToken);
      }
    },
    request: async (worker) => {
      const body = { refreshToken: refreshTokens[worker] };
      const answer = await http(auth.url, "POST", "/auth/refresh", { body, anonymous: true });
      refreshTokens[worker] = (JSON.parse(answer) as { refreshToken: string }).refreshToken;
    },
    after() {
      const resident = residentMiB(processes).auth ?? Number.NaN;
      return resident > maxMemoryMiB ? [`auth holds ${resident.toFixed(0)} MiB, more than ${maxMemoryMiB}`] : [];
    },
  };

  const issuer = platform.gatewayUrl;
  const verifier = createVerifier({ authUrl: auth.url, issuer, audience: "patient-management", revocations: createRevocationList() });
  const verifyToken: Row = {
    name: "verify a token",
    concurrency: 1,
    things: verifications,
    seconds: 4,
    request: async () => {
      const authorization = `Bearer ${await token()}`;
      for (let i = 0; i < verifications; i++) await verifier.verify(authorization);
    },
    baseline: baselines.signature,
    aims: { minRate: 10 },
  };

  return [login, refresh, verifyToken];
};
