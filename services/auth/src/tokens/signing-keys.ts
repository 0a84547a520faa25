/**
 * The keys that sign access tokens: ES256, in Postgres, the private half encrypted. A key is published before it signs,
 * for longer than anybody caches the key set, and stays published until the last token that it signed has expired. So
 * nobody notices a rotation.
 */
import type { Encryptor } from "@pm/kit/encryption";
import { AppError } from "@pm/kit/errors";
import type { Lifecycle } from "@pm/kit/lifecycle";
import type { Logger } from "@pm/kit/log";
import type { RequestContext } from "@pm/kit/request-context";
import {
  type CryptoKey,
  calculateJwkThumbprint,
  errors,
  exportJWK,
  generateKeyPair,
  importJWK,
  type JWK,
  type JWTVerifyGetKey,
} from "jose";
import type { AuthDatabase } from "../tables.ts";
import { systemActor, type UnitOfWork } from "../unit-of-work.ts";
import { addKey, deleteKey, listKeys, type StoredKey } from "./store.ts";

/** A key that signs now, will sign, or has signed. Times in milliseconds since the epoch. */
type SigningKey = {
  kid: string;
  publicJwk: JWK;
  publicKey: CryptoKey;
  privateKey: CryptoKey;
  activeFrom: number;
  /** When the last token of the key has expired. Undefined while no later key exists. */
  retiresAt: number | undefined;
};

/** What an operator sees of a key. Times in milliseconds since the epoch. */
export type KeyInfo = { kid: string; state: "next" | "current" | "retired"; activeFrom: number; retiresAt: number | undefined };

export type SigningKeys = {
  /** The key set to publish (RFC 7517). */
  jwks(): Promise<{ keys: JWK[] }>;
  /** The key that signs now. @throws AppError unavailable while no key could be loaded */
  current(): Promise<{ kid: string; privateKey: CryptoKey }>;
  /** For verifying our own tokens. */
  resolve: JWTVerifyGetKey;
  list(): Promise<KeyInfo[]>;
  /** Creates the next key, or returns the one that waits to sign. */
  rotate(context: RequestContext): Promise<KeyInfo>;
  /** Creates the first key, and the next one if the current key is old enough. Every replica may call it. */
  maintain(): Promise<void>;
};

/**
 * How often a replica looks for keys that another replica has created: far more often than a key takes to be published.
 */
const reloadMs = 5_000;
/** The clocks of two machines may differ by this much. */
const skewMs = 60_000;
const dayMs = 86_400_000;

export function createSigningKeys(options: {
  db: AuthDatabase;
  unitOfWork: UnitOfWork;
  encryptor: Encryptor;
  /** How long a key is published before it signs. */
  publishSeconds: number;
  /** How long a key signs. */
  rotationSeconds: number;
  tokenSeconds: number;
  now: () => number;
}): SigningKeys {
  const { db, unitOfWork, encryptor, publishSeconds, rotationSeconds, now } = options;
  const cache = createKeyCache(options);
  const signing = (keys: SigningKey[]) => keys.findLast((key) => key.activeFrom <= now());
  const published = async () => (await cache.read()).filter(({ retiresAt = Number.POSITIVE_INFINITY }) => retiresAt > now());

  function toInfo(keys: SigningKey[], key: SigningKey): KeyInfo {
    const state = key === signing(keys) ? "current" : key.activeFrom > now() ? "next" : "retired";
    return { kid: key.kid, state, activeFrom: key.activeFrom, retiresAt: key.retiresAt };
  }

  /** Adds a key after the last one. If another replica was faster, its key is loaded instead. */
  async function append(last: SigningKey | undefined, activeFrom: number, context: RequestContext): Promise<SigningKey[]> {
    const key = await generateKey(encryptor, activeFrom);
    await unitOfWork.run(context, (change) => addKey(change, key, last?.kid));
    return cache.load();
  }
  const appendNext = (last: SigningKey | undefined, context: RequestContext) => append(last, now() + publishSeconds * 1_000, context);

  return {
    async jwks() {
      return { keys: (await published()).map((key) => key.publicJwk) };
    },
    async current() {
      const key = signing(await cache.read());
      if (!key) throw new AppError("unavailable", "There is no signing key yet. Try again shortly.", { retryAfterSeconds: 1 });
      return { kid: key.kid, privateKey: key.privateKey };
    },
    async resolve(header) {
      const find = async () => (await published()).find((key) => key.kid === header?.kid);
      let key = await find();
      if (!key && cache.ageMs() > 1_000) {
        await cache.load();
        key = await find();
      }
      if (!key) throw new errors.JWKSNoMatchingKey();
      return key.publicKey;
    },
    async list() {
      const keys = await cache.load();
      return keys.map((key) => toInfo(keys, key));
    },
    async rotate(context) {
      let keys = await cache.load();
      const last = keys.at(-1);
      if (!last || last.activeFrom <= now()) keys = await appendNext(last, context);
      const next = keys.at(-1);
      if (!next) throw new AppError("internal", "The key was not stored.");
      return toInfo(keys, next);
    },
    async maintain() {
      let keys = await cache.load();
      const last = keys.at(-1);
      if (!last) keys = await append(undefined, now(), systemActor());
      else if (last.activeFrom <= now() && last.activeFrom + (rotationSeconds - publishSeconds) * 1_000 <= now())
        keys = await appendNext(last, systemActor());
      for (const { kid, retiresAt } of keys) if (retiresAt !== undefined && retiresAt + dayMs < now()) await deleteKey(db, kid);
    },
  };
}

/** The keys of the database in memory, in the order in which they sign. */
function createKeyCache(options: { db: AuthDatabase; encryptor: Encryptor; tokenSeconds: number; now: () => number }) {
  const { db, encryptor, tokenSeconds, now } = options;
  let keys: SigningKey[] = [];
  let loadedAt = Number.NEGATIVE_INFINITY;
  let loading: Promise<SigningKey[]> | undefined;

  async function loadKey(row: StoredKey, successor: StoredKey | undefined): Promise<SigningKey> {
    const retiresAt = successor && successor.active_from.getTime() + tokenSeconds * 1_000 + skewMs;
    const known = keys.find((key) => key.kid === row.kid);
    if (known) return { ...known, retiresAt };
    const privateJwk = JSON.parse(encryptor.decrypt(row.sealed_private_jwk, row.kid)) as JWK;
    const [publicKey, privateKey] = await Promise.all([importJWK(row.public_jwk, "ES256"), importJWK(privateJwk, "ES256")]);
    return {
      kid: row.kid,
      publicJwk: row.public_jwk,
      publicKey: publicKey as CryptoKey,
      privateKey: privateKey as CryptoKey,
      activeFrom: row.active_from.getTime(),
      retiresAt,
    };
  }

  function load(): Promise<SigningKey[]> {
    loading ??= (async () => {
      const rows = await listKeys(db);
      keys = await Promise.all(rows.map((row, index) => loadKey(row, rows[index + 1])));
      loadedAt = now();
      return keys;
    })().finally(() => {
      loading = undefined;
    });
    return loading;
  }

  return {
    /** Reads the database. Parallel callers share one read. */
    load,
    ageMs: () => now() - loadedAt,
    /** Refreshes old keys in the background. While the database is away, the keys that were read last still serve. */
    async read(): Promise<SigningKey[]> {
      if (now() - loadedAt > reloadMs) {
        const refresh = load();
        if (keys.length === 0) await refresh;
        else refresh.catch(() => undefined);
      }
      return keys;
    },
  };
}

async function generateKey(encryptor: Encryptor, activeFrom: number): Promise<StoredKey> {
  const pair = await generateKeyPair("ES256", { extractable: true });
  const [publicJwk, privateJwk] = await Promise.all([exportJWK(pair.publicKey), exportJWK(pair.privateKey)]);
  const kid = await calculateJwkThumbprint(publicJwk);
  return {
    kid,
    public_jwk: { ...publicJwk, kid, alg: "ES256", use: "sig" },
    sealed_private_jwk: encryptor.encrypt(JSON.stringify(privateJwk), kid),
    active_from: new Date(activeFrom),
  };
}

/** Creates the first key as soon as the database answers, and checks every minute whether the next one is due. */
export function startKeyMaintenance(keys: SigningKeys, { log, lifecycle }: { log: Logger; lifecycle: Lifecycle }): void {
  let ready = false;
  let timer: NodeJS.Timeout | undefined;
  const step = async (): Promise<void> => {
    try {
      await keys.maintain();
      ready = true;
    } catch (error) {
      log.warn({ err: error }, "signing keys cannot be maintained; trying again");
    }
    timer = setTimeout(() => void step(), ready ? 60_000 : 1_000);
  };
  void step();
  lifecycle.onReady("signing keys", () => ready);
  lifecycle.onClose("signing keys", () => clearTimeout(timer));
}
