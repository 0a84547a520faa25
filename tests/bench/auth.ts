/** Signing in beside what argon2id alone does on the same cores, refreshing, verifying tokens, and the memory of auth after it. */
import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { hash, verify } from "@node-rs/argon2";
import { createRevocationList } from "@pm/kit/auth/revocation-list";
import { createVerifier } from "@pm/kit/auth/verifier";
import { argon2Options, hashesAtOnce } from "../../services/auth/src/passwords/hashing.ts";
import type { Rows } from "./context.ts";
import { type Row, residentMiB } from "./measure.ts";

/** As many people, since who has five attempts under way has to wait. */
const atOnce = 12;
const verifications = 1_000;
const maxMemoryMiB = 150;

/** Verifications with auth's parameters, as many at a time as auth makes, in this process and for some seconds. */
async function bareArgon2(seconds: number): Promise<number> {
  const stored = await hash("a password", argon2Options);
  const end = performance.now() + seconds * 1_000;
  let count = 0;
  const work = async () => {
    for (; performance.now() < end; count++) await verify(stored, "another password");
  };
  await Promise.all(Array.from({ length: hashesAtOnce }, work));
  return count;
}

export const rows: Rows = async ({ platform, processes, http, token }) => {
  const { auth } = platform.services;
  const people = Array.from({ length: atOnce }, () => ({ email: `${randomUUID()}@example.com`, password: randomUUID() }));
  const bare = { count: 0, seconds: 0 };
  const login: Row = {
    name: "log in, at least 80 % of argon2id alone",
    concurrency: atOnce,
    // As long as a create: then Kafka's and our processes have compiled what they run.
    warmUpSeconds: 12,
    seconds: 18,
    prepare: async () => {
      for (const person of people)
        await http(auth.url, "POST", "/auth/users", { body: { ...person, name: "Bench", roles: ["user"] }, status: 201 });
    },
    between: async () => {
      // What the log-ins before have left to do is done first.
      await delay(1_000);
      const started = performance.now();
      bare.count += await bareArgon2(2);
      bare.seconds += (performance.now() - started) / 1_000;
      const perSecond = bare.count / bare.seconds;
      process.stdout.write(`argon2id alone: ${perSecond.toFixed(0)}/s\n`);
      login.limits = { perSecond: perSecond * 0.8 };
    },
    request: (worker) => http(auth.url, "POST", "/auth/login", { body: people[worker], anonymous: true }),
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
  const verifier = createVerifier({ authUrl: auth.url, issuer, audience: "patient-management", revocations: createRevocationList() });
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
