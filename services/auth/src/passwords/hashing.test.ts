import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";
import { createPasswords } from "./hashing.ts";

test("while a whole round of hashes waits it is busy, and what does not fit in is refused at once", async () => {
  const passwords = await createPasswords({ concurrency: 1, maxQueue: 2 });
  const first = passwords.hash("under way");
  expect(passwords.isBusy()).toBe(false);
  const waiting = [passwords.hash("waits"), passwords.hash("waits too")];
  expect(passwords.isBusy()).toBe(true);
  await expect(passwords.hash("too late")).rejects.toMatchObject({ code: "unavailable" });
  expect(passwords.checkRoom).toThrow("Too many people are signing in right now");
  await Promise.all([first, ...waiting]);
  expect(passwords.isBusy()).toBe(false);
  expect(passwords.checkRoom).not.toThrow();
});

const linuxOnly = { meta: { skipped: "only Linux has this limit" } };
test.skipIf(process.platform !== "linux")("a process that was started with a low priority hashes passwords too", linuxOnly, () => {
  const script = `
    import { createPasswords } from "./hashing.ts";
    const passwords = await createPasswords({ concurrency: 1, maxQueue: 1 });
    console.log((await passwords.verify(await passwords.hash("correct horse"), "correct horse")).matches);
  `;
  // Root may raise a priority. The process gives up that privilege first, because a container does not have it.
  const rights = process.getuid?.() === 0 ? ["setpriv", "--bounding-set=-sys_nice"] : [];
  const command = [...rights, "nice", "-n", "19", process.execPath, "--input-type=module-typescript", "--eval", script];
  const said = execFileSync("env", command, { cwd: import.meta.dirname, encoding: "utf8" });
  expect(said.trim()).toBe("true");
});
