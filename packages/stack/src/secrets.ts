import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** The secrets of one installation, generated once and kept with its data. */
export type Secrets = {
  /** Part of the names of the Docker volumes, so that two clones do not share data. */
  id: string;
  postgresPassword: string;
  clientSecrets: { patient: string; billing: string; analytics: string };
  cursorKey: string;
  /** 32 bytes in base64. */
  keyEncryptionKey: string;
  adminEmail: string;
  adminPassword: string;
};

/**
 * Reads the secrets of a data folder. The first call generates them, readable for this user only. It takes the first
 * admin from `ADMIN_EMAIL` and `ADMIN_PASSWORD` if they are set; later calls ignore both.
 */
export function loadSecrets(dataDir: string): Secrets {
  const file = join(dataDir, "secrets.json");
  if (existsSync(file)) return JSON.parse(readFileSync(file, "utf8")) as Secrets;
  const secret = () => randomBytes(24).toString("base64url");
  const secrets: Secrets = {
    id: randomBytes(6).toString("hex"),
    postgresPassword: secret(),
    clientSecrets: { patient: secret(), billing: secret(), analytics: secret() },
    cursorKey: randomBytes(32).toString("base64url"),
    keyEncryptionKey: randomBytes(32).toString("base64"),
    adminEmail: process.env.ADMIN_EMAIL ?? "admin@example.com",
    adminPassword: process.env.ADMIN_PASSWORD ?? randomBytes(12).toString("base64url"),
  };
  mkdirSync(dataDir, { recursive: true });
  writeFileSync(`${file}.new`, `${JSON.stringify(secrets, null, 2)}\n`, { mode: 0o600 });
  renameSync(`${file}.new`, file);
  return secrets;
}
