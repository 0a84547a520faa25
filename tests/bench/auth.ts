/** Signing in beside what argon2id alone does on the same cores, refreshing, verifying tokens, and the memory of auth after it. */
import { hash, verify } from "@node-rs/argon2";
import { createVerifier } from "@pm/kit/auth";
import { argon2Options } from "../../services/auth/src/passwords.ts";
import type { Rows } from "./context.ts";
import { type Row, residentMiB } from "./measure.ts";

const atOnce = 4;
const verifications = 1_000;
const maxMemoryMiB = 150;

/** Verifications per second of bare argon2id with auth's parameters, in this process. */
async function bareArgon2(seconds: number): Promise<number> {
  const stored = await hash("a password", argon2Options);
  const started = performance.now();
  let count = 0;
  const work = async () => {
    for (; performance.now() - started < seconds * 1_000; count++) await verify(stored, "another password");
  };
  await Promise.all(Array.from({ length: atOnce }, work));
  return (count * 1_000) / (performance.now() - started);
}

export const rows: Rows = async ({ platform, processes, http, token }) => {
  const { auth } = platform.services;
  const login: Row = {
    name: "log in, at least 80 % of argon2id alone",
    concurrency: atOnce,
    seconds: 10,
    prepare: async () => {
      const bare = await bareArgon2(4);
      process.stdout.write(`argon2id alone: ${bare.toFixed(0)}/s\n`);
      login.limits = { perSecond: bare * 0.8 };
    },
    request: () => http(auth.url, "POST", "/auth/login", { body: platform.admin, anonymous: true }),
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
  };

  const issuer = platform.gatewayUrl;
  const verifier = createVerifier({ authUrl: auth.url, issuer, audience: "patient-management", isRevoked: () => false });
  const verifyToken: Row = {
    name: `${verifications} verifications of a token, at most 0.1 ms each`,
    concurrency: 1,
    seconds: 4,
    request: async () => {
      const authorization = `Bearer ${await token()}`;
      for (let i = 0; i < verifications; i++) await verifier.verify(authorization);
    },
    limits: { p99Ms: verifications * 0.1 },
  };

  const memory: Row = {
    name: `auth within ${maxMemoryMiB} MiB after all of it`,
    concurrency: 1,
    seconds: 1,
    request: async () => {
      const { auth: resident = Number.NaN } = residentMiB({ auth: processes.auth ?? (() => []) });
      if (!(resident <= maxMemoryMiB)) throw new Error(`auth holds ${resident.toFixed(0)} MiB, more than ${maxMemoryMiB}`);
    },
  };
  return [login, refresh, verifyToken, memory];
};
