/**
 * Makes the Secrets that /wanted/secrets.json lists and that the namespace lacks: passwords, certificate authorities
 * and certificates. Existing Secrets stay as they are, except a certificate that expires within RENEW_DAYS: the same
 * authority issues it again. So this may run at any time. To rotate a Secret, delete it and run this.
 *
 * It runs in a Job with the rights to create Secrets and to read and replace the listed ones, in the plain Node image.
 */
import { randomBytes, X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import type { Pair } from "./certificates.mts";
import { createAuthority, issue } from "./certificates.mts";

type Wanted =
  | { name: string; kind: "password"; username: string }
  | { name: string; kind: "authority"; publicName?: string }
  | { name: string; kind: "server"; authority: string; services: string[]; certificateKey: string; privateKeyKey: string }
  | { name: string; kind: "client"; authority: string; user: string };

interface Secret {
  metadata: { resourceVersion?: string };
  data?: Record<string, string>;
}

const ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount";
const AUTHORITY_DAYS = 3650;
const LEAF_DAYS = 365;
const RENEW_DAYS = 60;

const now = new Date();
const namespace = (await readFile(`${ACCOUNT}/namespace`, "utf8")).trim();
const token = (await readFile(`${ACCOUNT}/token`, "utf8")).trim();
const wanted = JSON.parse(await readFile("/wanted/secrets.json", "utf8")) as Wanted[];

// Authorities come first, because the certificates below need them.
const authorities = new Map<string, Pair>();
for (const want of wanted) {
  if (want.kind !== "authority") continue;
  const have = await read(want.name);
  const pair = have
    ? { certificate: text(have, "ca.crt", want.name), key: text(have, "ca.key", want.name) }
    : createAuthority(`${want.name}.${namespace}`, AUTHORITY_DAYS, now);
  authorities.set(want.name, pair);
  if (have) say(want.name, "kept");
  else await write(want.name, undefined, { "ca.crt": pair.certificate, "ca.key": pair.key });
  // Clients read a Secret that has the certificate but not the private key, as with Strimzi.
  if (want.publicName && !(await read(want.publicName))) await write(want.publicName, undefined, { "ca.crt": pair.certificate });
}

for (const want of wanted) {
  if (want.kind === "authority") continue;
  const have = await read(want.name);
  if (want.kind === "password") {
    if (have) say(want.name, "kept");
    else
      await write(
        want.name,
        undefined,
        { username: want.username, password: randomBytes(24).toString("base64url") },
        "kubernetes.io/basic-auth",
      );
    continue;
  }
  const authority = authorities.get(want.authority);
  if (!authority) throw new Error(`${want.name}: there is no authority ${want.authority} in secrets.json`);
  const certificateKey = want.kind === "server" ? want.certificateKey : "user.crt";
  if (have && !expiresSoon(text(have, certificateKey, want.name))) {
    say(want.name, "kept");
    continue;
  }
  if (want.kind === "server") {
    const hosts = ["localhost", "127.0.0.1", ...want.services.flatMap(hostsOf)];
    const pair = issue({ commonName: want.name, hosts, days: LEAF_DAYS, now }, authority);
    await write(want.name, have, {
      [want.certificateKey]: pair.certificate,
      [want.privateKeyKey]: pair.key,
      "ca.crt": authority.certificate,
    });
  } else {
    const pair = issue({ commonName: want.user, hosts: [], days: LEAF_DAYS, now }, authority);
    await write(want.name, have, { "user.crt": pair.certificate, "user.key": pair.key, "ca.crt": authority.certificate });
  }
}

/** Every DNS name of a Service inside the cluster. */
function hostsOf(service: string): string[] {
  return [service, `${service}.${namespace}`, `${service}.${namespace}.svc`, `${service}.${namespace}.svc.cluster.local`];
}

function expiresSoon(certificate: string): boolean {
  return new X509Certificate(certificate).validToDate.getTime() < now.getTime() + RENEW_DAYS * 24 * 60 * 60 * 1000;
}

function text(secret: Secret, key: string, name: string): string {
  const value = secret.data?.[key];
  if (value === undefined) throw new Error(`Secret ${name} has no key ${key}: delete it, and it is made again`);
  return Buffer.from(value, "base64").toString();
}

async function read(name: string): Promise<Secret | undefined> {
  const answer = await call("GET", `/${name}`);
  return answer.status === 404 ? undefined : ((await answer.json()) as Secret);
}

async function write(name: string, have: Secret | undefined, data: Record<string, string>, type = "Opaque"): Promise<void> {
  const labels = {
    "app.kubernetes.io/part-of": "patient-management",
    "app.kubernetes.io/managed-by": "secrets-job",
    "cnpg.io/reload": "true",
  };
  const resourceVersion = have?.metadata.resourceVersion;
  const metadata = { name, namespace, labels, ...(resourceVersion ? { resourceVersion } : {}) };
  const body = { apiVersion: "v1", kind: "Secret", type, metadata, stringData: data };
  await call(have ? "PUT" : "POST", have ? `/${name}` : "", body);
  say(name, have ? "renewed" : "made");
}

async function call(method: string, path: string, body?: unknown): Promise<Response> {
  const answer = await fetch(`https://kubernetes.default.svc/api/v1/namespaces/${namespace}/secrets${path}`, {
    method,
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    signal: AbortSignal.timeout(10_000),
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  if (answer.ok || (method === "GET" && answer.status === 404)) return answer;
  throw new Error(`${method} secrets${path}: ${answer.status} ${await answer.text()}`);
}

function say(name: string, what: string): void {
  process.stdout.write(`${name}: ${what}\n`);
}
