/** The public keys by which an API client proves itself (`private_key_jwt`). */
import { type FieldError, invalidFields } from "@pm/kit/errors";
import { importJWK, type JSONWebKeySet, type JWK } from "jose";

/** The signatures of assertions that are accepted. SMART on FHIR asks for ES384 and RS384. */
export const assertionAlgorithms = ["RS256", "RS384", "PS256", "ES256", "ES384", "EdDSA", "Ed25519"];

const algorithmsOf: Record<string, string[]> = {
  RSA: ["RS256", "RS384", "PS256"],
  "EC P-256": ["ES256"],
  "EC P-384": ["ES384"],
  "OKP Ed25519": ["EdDSA", "Ed25519"],
};
const privateMembers = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] as const;

/**
 * Checks the keys that an administrator sends, and returns what of them is kept.
 * @throws AppError invalid_argument that names every wrong key
 */
export async function toPublicKeys({ keys }: JSONWebKeySet): Promise<JSONWebKeySet> {
  const faults = (await Promise.all(keys.map((key, index) => faultsOf(key, `jwks.keys[${index}]`)))).flat();
  const kids = new Set(keys.map(({ kid }) => kid));
  if (keys.length > 1 && (kids.size < keys.length || kids.has(undefined)))
    faults.push({ path: "jwks.keys", message: "need a kid each, so that an assertion can name its key" });
  if (faults.length > 0) throw invalidFields(faults);
  return { keys: keys.map(publicPart) };
}

/** Without the alg of an Ed25519 key: it has two names, EdDSA and Ed25519, and libraries sign by either. */
function publicPart({ kty, kid, alg, use, crv, x, y, n, e }: JWK): JWK {
  const named = { kid, alg: kty === "OKP" ? undefined : alg, use, crv, x, y, n, e };
  return { kty, ...Object.fromEntries(Object.entries(named).filter(([, value]) => value !== undefined)) } as JWK;
}

/** What a public key of each type consists of (RFC 7518, 6.2 and 6.3; RFC 8037, 2). */
const publicMembers: Record<string, ("n" | "e" | "x" | "y")[]> = {
  RSA: ["n", "e"],
  EC: ["x", "y"],
  OKP: ["x"],
};
const coordinateBytes: Record<string, number> = { "P-256": 32, "P-384": 48, Ed25519: 32 };

/** What is wrong with the members of a key, each by itself. */
function faultsOfMembers(key: JWK, path: string): FieldError[] {
  const length = coordinateBytes[key.crv ?? ""];
  return (publicMembers[key.kty ?? ""] ?? []).flatMap((name) => {
    if (!key[name]) return [{ path: `${path}.${name}`, message: "is required" }];
    if (key.kty === "RSA" || Buffer.from(key[name], "base64url").length === length) return [];
    return [{ path: `${path}.${name}`, message: `must have ${length} bytes, as base64url` }];
  });
}

async function faultsOf(key: JWK, path: string): Promise<FieldError[]> {
  const fault = (message: string, at = path) => [{ path: at, message }];
  if (privateMembers.some((member) => key[member] !== undefined))
    return fault("has a private part, which nobody else may have; make a new pair of keys and send the public one");
  const algorithms = algorithmsOf[key.kty === "RSA" ? "RSA" : `${key.kty} ${key.crv}`];
  if (!algorithms && key.crv === undefined) return fault("is required: P-256, P-384 or Ed25519", `${path}.crv`);
  if (!algorithms) return fault("must be an RSA key, or one of the curves P-256, P-384 and Ed25519");
  if (key.alg !== undefined && !algorithms.includes(key.alg))
    return fault(`has an alg that such a key cannot have; take ${algorithms.join(", ")}`);
  if (key.use !== undefined && key.use !== "sig") return fault("must be for signatures (use: sig)");
  const faults = faultsOfMembers(key, path);
  if (faults.length > 0) return faults;
  const imported = await importJWK(key, key.alg ?? algorithms[0]).catch(() => undefined);
  if (!imported || imported instanceof Uint8Array) return fault("is not a valid key: no key of its type has these members");
  const { modulusLength = 2_048 } = imported.algorithm as { modulusLength?: number };
  return modulusLength < 2_048 || modulusLength > 4_096 ? fault("must have 2,048 to 4,096 bits") : [];
}
