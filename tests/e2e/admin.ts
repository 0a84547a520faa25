/** A running platform and its administrator, for tests of a file that need nothing else before they begin. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Platform, startPlatform } from "@pm/stack/platform";
import { type Client, logIn } from "./client.ts";

export let platform: Platform;
export let admin: Client;
export const dataDir = mkdtempSync(join(tmpdir(), "pm-admin-"));

export async function startWithAdmin(): Promise<void> {
  platform = await startPlatform({ dataDir, durable: false });
  admin = await logIn(platform);
}

export async function stopPlatform(): Promise<void> {
  await platform?.stop();
  rmSync(dataDir, { recursive: true, force: true });
}
