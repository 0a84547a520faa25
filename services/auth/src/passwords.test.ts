import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";

test.skipIf(process.platform !== "linux")("a process that was started with a low priority hashes passwords too", () => {
  const script = `
    import { createPasswords } from "./passwords.ts";
    const passwords = await createPasswords({ concurrency: 1, maxQueue: 1 });
    console.log(await passwords.verify(await passwords.hash("correct horse"), "correct horse"));
  `;
  // Root may raise a priority again, so it gives that right up first; a container has not got it.
  const rights = process.getuid?.() === 0 ? ["setpriv", "--bounding-set=-sys_nice"] : [];
  const command = [...rights, "nice", "-n", "19", process.execPath, "--input-type=module-typescript", "--eval", script];
  const said = execFileSync("env", command, { cwd: import.meta.dirname, encoding: "utf8" });
  expect(said.trim()).toBe("true");
});
