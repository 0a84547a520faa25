/**
 * X.509 certificates with node:crypto alone. It makes keys and signatures, but has no function that writes a
 * certificate. This file writes the smallest profile that OpenSSL, the JDK and Node all accept for TLS: version 3, an
 * ECDSA P-256 key, SHA-256, basic constraints, key usage, extended key usage and subject alternative names (RFC 5280).
 */

import type { KeyObject } from "node:crypto";
import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, randomBytes, sign, X509Certificate } from "node:crypto";

/** A certificate and its private key (PKCS#8), both as PEM. */
export interface Pair {
  certificate: string;
  key: string;
}

/** The content of a certificate. `hosts` are DNS names and IPv4 addresses; without any, it is a client certificate. */
export interface Request {
  commonName: string;
  hosts: readonly string[];
  /** Full days from now until it expires. It is valid from an hour ago, for clocks that are slow. */
  days: number;
  now: Date;
}

const DAY_MS = 24 * 60 * 60 * 1000;
const ECDSA_WITH_SHA256 = "1.2.840.10045.4.3.2";
const COMMON_NAME = "2.5.4.3";
const EXTENSION = {
  subjectKeyIdentifier: "2.5.29.14",
  keyUsage: "2.5.29.15",
  subjectAltName: "2.5.29.17",
  basicConstraints: "2.5.29.19",
  authorityKeyIdentifier: "2.5.29.35",
  extendedKeyUsage: "2.5.29.37",
} as const;
const SERVER_AUTH = "1.3.6.1.5.5.7.3.1";
const CLIENT_AUTH = "1.3.6.1.5.5.7.3.2";

/** A new certificate authority that signs itself. */
export function createAuthority(commonName: string, days: number, now: Date): Pair {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const extensions = [
    extension(EXTENSION.basicConstraints, true, sequence(boolean(true), integer(Buffer.from([0])))),
    // Bits 5 and 6 of the key usage: the key may sign certificates and revocation lists, and nothing else.
    extension(EXTENSION.keyUsage, true, bitString(Buffer.from([0b0000_0110]), 1)),
    extension(EXTENSION.subjectKeyIdentifier, false, octetString(keyIdentifier(publicKey))),
  ];
  return certificate({ commonName, hosts: [], days, now }, commonName, privateKey, privateKey, publicKey, extensions);
}

/** A certificate signed by `authority`, for a client, and also for a server if it has `hosts`. */
export function issue(request: Request, authority: Pair): Pair {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const signer = createPrivateKey(authority.key);
  const purposes = request.hosts.length > 0 ? [SERVER_AUTH, CLIENT_AUTH] : [CLIENT_AUTH];
  const extensions = [
    extension(EXTENSION.basicConstraints, true, sequence()),
    extension(EXTENSION.keyUsage, true, bitString(Buffer.from([0b1000_0000]), 7)),
    extension(EXTENSION.extendedKeyUsage, false, sequence(...purposes.map(objectIdentifier))),
    extension(EXTENSION.subjectKeyIdentifier, false, octetString(keyIdentifier(publicKey))),
    extension(EXTENSION.authorityKeyIdentifier, false, sequence(tagged(0x80, keyIdentifier(createPublicKey(signer))))),
  ];
  if (request.hosts.length > 0) {
    extensions.push(extension(EXTENSION.subjectAltName, false, sequence(...request.hosts.map(generalName))));
  }
  return certificate(request, issuerName(authority), signer, privateKey, publicKey, extensions);
}

function issuerName(authority: Pair): string {
  const name = /^CN=(.+)$/m.exec(new X509Certificate(authority.certificate).subject)?.[1];
  if (name === undefined) throw new Error("the authority has no common name");
  return name;
}

function certificate(
  request: Request,
  issuer: string,
  signer: KeyObject,
  privateKey: KeyObject,
  publicKey: KeyObject,
  extensions: Buffer[],
): Pair {
  const algorithm = sequence(objectIdentifier(ECDSA_WITH_SHA256));
  const unsigned = sequence(
    tagged(0xa0, integer(Buffer.from([2]))),
    // A positive serial number of 126 random bits that never begins with a zero byte: 0100 0000 is always set.
    integer(Buffer.concat([Buffer.from([0x40 | ((randomBytes(1)[0] ?? 0) & 0x3f)]), randomBytes(15)])),
    algorithm,
    distinguishedName(issuer),
    sequence(time(new Date(request.now.getTime() - 60 * 60 * 1000)), time(new Date(request.now.getTime() + request.days * DAY_MS))),
    distinguishedName(request.commonName),
    publicKey.export({ type: "spki", format: "der" }),
    tagged(0xa3, sequence(...extensions)),
  );
  const der = sequence(unsigned, algorithm, bitString(sign("sha256", unsigned, signer), 0));
  return { certificate: pem("CERTIFICATE", der), key: privateKey.export({ type: "pkcs8", format: "pem" }).toString() };
}

// DER, as far as it is used above. https://www.itu.int/rec/T-REC-X.690

function tagged(tag: number, ...parts: Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  if (body.length < 0x80) return Buffer.concat([Buffer.from([tag, body.length]), body]);
  const length = Buffer.from(
    body.length.toString(16).replace(/^(..)*.$/, (odd) => `0${odd}`),
    "hex",
  );
  return Buffer.concat([Buffer.from([tag, 0x80 | length.length]), length, body]);
}

function sequence(...parts: Buffer[]): Buffer {
  return tagged(0x30, ...parts);
}

function integer(bigEndian: Buffer): Buffer {
  return tagged(0x02, bigEndian);
}

function boolean(value: boolean): Buffer {
  return tagged(0x01, Buffer.from([value ? 0xff : 0]));
}

function bitString(bits: Buffer, unused: number): Buffer {
  return tagged(0x03, Buffer.from([unused]), bits);
}

function octetString(bytes: Buffer): Buffer {
  return tagged(0x04, bytes);
}

function objectIdentifier(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split(".").map(Number);
  const bytes = rest.flatMap((arc) => {
    const base128 = [arc & 0x7f];
    for (let high = arc >> 7; high > 0; high >>= 7) base128.unshift(0x80 | (high & 0x7f));
    return base128;
  });
  return tagged(0x06, Buffer.from([first * 40 + second, ...bytes]));
}

function distinguishedName(commonName: string): Buffer {
  const value = tagged(0x0c, Buffer.from(commonName, "utf8"));
  return sequence(tagged(0x31, sequence(objectIdentifier(COMMON_NAME), value)));
}

/** UTCTime holds the years 1950 to 2049. RFC 5280 requires GeneralizedTime from 2050 on. */
function time(at: Date): Buffer {
  const digits = at.toISOString().replace(/\.\d+|\D/g, "");
  return at.getUTCFullYear() < 2050 ? tagged(0x17, Buffer.from(`${digits.slice(2)}Z`)) : tagged(0x18, Buffer.from(`${digits}Z`));
}

function generalName(host: string): Buffer {
  const address = /^(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(host);
  return address ? tagged(0x87, Buffer.from(address.slice(1).map(Number))) : tagged(0x82, Buffer.from(host, "ascii"));
}

function extension(oid: string, critical: boolean, value: Buffer): Buffer {
  return sequence(objectIdentifier(oid), ...(critical ? [boolean(true)] : []), octetString(value));
}

function keyIdentifier(key: KeyObject): Buffer {
  return createHash("sha1")
    .update(key.export({ type: "spki", format: "der" }))
    .digest();
}

function pem(label: string, der: Buffer): string {
  const lines = der.toString("base64").match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join("\n")}\n-----END ${label}-----\n`;
}
