/**
 * A judge: authlib gets tokens at the gateway, by secret and by key, and authlib and PyJWT check them and those of
 * people, as a Python program would.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startPlatform } from "@pm/stack/platform";
import { run } from "@pm/stack/programs/child";
import { exportPKCS8 } from "jose";
import { logIn } from "../e2e/client.ts";
import { installAuthlib } from "./authlib.ts";
import { newKeys, register } from "./clients.ts";

const say = (line: string) => void process.stdout.write(`${line}\n`);
const python = join(await installAuthlib(say), "bin", "python");
const dataDir = mkdtempSync(join(tmpdir(), "pm-authlib-"));
const platform = await startPlatform({ dataDir, durable: false, log: say, env: { all: { LOG_LEVEL: "warn" } } });
try {
  const admin = await logIn(platform);
  const { privateKey, kid, jwks } = await newKeys("RS384");
  const scopes = ["patient:read", "billing:read"];
  const [bySecret, byKey] = [await register(admin, { scopes }), await register(admin, { scopes, jwks })];
  const env = {
    GATEWAY: platform.gatewayUrl,
    AUDIENCE: "patient-management",
    CLIENT_ID: bySecret.id,
    CLIENT_SECRET: bySecret.secret,
    KEY_CLIENT_ID: byKey.id,
    PRIVATE_KEY: await exportPKCS8(privateKey),
    KEY_ID: kid,
    USER_TOKEN: admin.token,
  };
  say(await run(python, [join(import.meta.dirname, "authlib_client.py")], { env }));
} finally {
  await platform.stop();
  rmSync(dataDir, { recursive: true, force: true });
}
