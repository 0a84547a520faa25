/**
 * The keys that sign access tokens: ES256, in Postgres, the private half sealed. A key is published before it signs, for
 * longer than anybody caches the key set, and stays published until the last token that it signed has expired. So a
 * rotation is seen by nobody.
 */
import { AppError } from "@pm/kit/errors";
import type { Lifecycle } from "@pm/kit/lifecycle";
import type { Logger } from "@pm/kit/log";
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
import type { Sealer } from "../seal.ts";
import type { AuthDatabase } from "../tables.ts";
import { type Actor, actingAlone, type Changes } from "../unit-of-work.ts";
import { addKey, deleteKey, listKeys, type StoredKey } from "./store.ts";

/** A key that a token may be signed with, or may have been. */
type SigningKey = { kid: string; publicJwk: JWK; publicKey: CryptoKey; privateKey: CryptoKey; activeFrom: number };

/** What an operator sees of a key. Times in milliseconds since the epoch. */
export type KeyInfo = { kid: string; state: "next" | "current" | "retired"; activeFrom: number; retiresAt: number | undefined };

export type SigningKeys = {
  /** The key set to publish (RFC 7517). */
  jwks(): Promise<{ keys: JWK[] }>;
  /** The key that signs now. @throws AppError unavailable while no key could be loaded. */
  current(): Promise<{ kid: string; privateKey: CryptoKey }>;
  /** For verifying our own tokens. */
  resolve: JWTVerifyGetKey;
  list(): Promise<KeyInfo[]>;
  /** Makes the next key; where one is under way already, that one. */
  rotate(actor: Actor): Promise<KeyInfo>;
  /** Makes the first key, and the next one where the current one is old enough. Safe to call from every replica. */
  maintain(): Promise<void>;
};

/** How often a replica looks for keys that another one made; far below any time of publication. */
const reloadMs = 5_000;
/** Clocks of two machines may differ by this much. */
const skewMs = 60_000;

export function createSigningKeys(options: {
  database: AuthDatabase;
  changes: Changes;
  sealer: Sealer;
  /** How long a key is published before it signs. */
  publishSeconds: number;
  /** How long a key signs. */
  rotationSeconds: number;
  tokenSeconds: number;
  now: () => number;
}): SigningKeys {
  const { database, changes, sealer, publishSeconds, rotationSeconds, tokenSeconds, now } = options;
  let loaded: SigningKey[] = [];
  let loadedAt = Number.NEGATIVE_INFINITY;
  let loading: Promise<void> | undefined;

  async function unseal(row: StoredKey): Promise<SigningKey> {
    const known = loaded.find((key) => key.kid === row.kid);
    if (known) return known;
    const privateJwk = JSON.parse(sealer.open(row.sealed_private_jwk, row.kid)) as JWK;
    const [publicKey, privateKey] = await Promise.all([importJWK(row.public_jwk, "ES256"), importJWK(privateJwk, "ES256")]);
    return {
      kid: row.kid,
      publicJwk: row.public_jwk,
      publicKey: publicKey as CryptoKey,
      privateKey: privateKey as CryptoKey,
      activeFrom: row.active_from.getTime(),
    };
  }

  async function load(): Promise<void> {
    loading ??= (async () => {
      const rows = await listKeys(database);
      loaded = await Promise.all(rows.map(unseal));
      loadedAt = now();
    })().finally(() => {
      loading = undefined;
    });
    await loading;
  }

  /** Keys in the order in which they sign. While the database is away, those that were read last still serve. */
  async function keys(): Promise<SigningKey[]> {
    if (now() - loadedAt > reloadMs) {
      const refresh = load();
      if (loaded.length === 0) await refresh;
      else refresh.catch(() => undefined);
    }
    return loaded;
  }

  function signing(all: SigningKey[]): SigningKey | undefined {
    return all.findLast((key) => key.activeFrom <= now());
  }

  /** A key's tokens are dead when its successor has signed for as long as a token lives. */
  function retiresAt(all: SigningKey[], key: SigningKey): number | undefined {
    const successor = all[all.indexOf(key) + 1];
    return successor && successor.activeFrom + tokenSeconds * 1_000 + skewMs;
  }

  function describe(all: SigningKey[], key: SigningKey): KeyInfo {
    const state = key === signing(all) ? "current" : key.activeFrom > now() ? "next" : "retired";
    return { kid: key.kid, state, activeFrom: key.activeFrom, retiresAt: retiresAt(all, key) };
  }

  async function published(): Promise<SigningKey[]> {
    const all = await keys();
    return all.filter((key) => (retiresAt(all, key) ?? Number.POSITIVE_INFINITY) > now());
  }

  async function make(activeFrom: number): Promise<StoredKey> {
    const pair = await generateKeyPair("ES256", { extractable: true });
    const [publicJwk, privateJwk] = await Promise.all([exportJWK(pair.publicKey), exportJWK(pair.privateKey)]);
    const kid = await calculateJwkThumbprint(publicJwk);
    return {
      kid,
      public_jwk: { ...publicJwk, kid, alg: "ES256", use: "sig" },
      sealed_private_jwk: sealer.seal(JSON.stringify(privateJwk), kid),
      active_from: new Date(activeFrom),
    };
  }

  async function append(activeFrom: number, actor: Actor): Promise<void> {
    const last = loaded.at(-1);
    // Whoever made a key in the meantime (another replica) wins; both then see the same one.
    const key = await make(activeFrom);
    await changes.run(actor, (change) => addKey(change, key, last?.kid));
    await load();
  }

  return {
    async jwks() {
      return { keys: (await published()).map((key) => key.publicJwk) };
    },
    async current() {
      const key = signing(await keys());
      if (!key) throw new AppError("unavailable", "No signing key is there yet. Try again shortly.", { retryAfterSeconds: 1 });
      return { kid: key.kid, privateKey: key.privateKey };
    },
    async resolve(header) {
      const find = async () => (await published()).find((key) => key.kid === header?.kid);
      let key = await find();
      if (!key && now() - loadedAt > 1_000) {
        await load();
        key = await find();
      }
      if (!key) throw new errors.JWKSNoMatchingKey();
      return key.publicKey;
    },
    async list() {
      await load();
      return loaded.map((key) => describe(loaded, key));
    },
    async rotate(actor) {
      await load();
      const last = loaded.at(-1);
      if (!last || last.activeFrom <= now()) await append(now() + publishSeconds * 1_000, actor);
      const next = loaded.at(-1);
      if (!next) throw new AppError("internal", "The key was not stored.");
      return describe(loaded, next);
    },
    async maintain() {
      await load();
      const last = loaded.at(-1);
      if (!last) await append(now(), actingAlone());
      else if (last.activeFrom <= now() && last.activeFrom + (rotationSeconds - publishSeconds) * 1_000 <= now())
        await append(now() + publishSeconds * 1_000, actingAlone());
      for (const key of loaded) {
        const end = retiresAt(loaded, key);
        if (end !== undefined && end + 86_400_000 < now()) await deleteKey(database, key.kid);
      }
    },
  };
}

/** Makes the first key as soon as the database answers, and looks every minute whether the next one is due. */
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
