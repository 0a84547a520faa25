import { execFileSync } from "node:child_process";
import { createServer } from "node:net";
import { join } from "node:path";
import { expect, test } from "vitest";
import { freePort, isFree } from "../src/programs/ports.ts";

/** Another process asks for a port, as another test run would. */
function portOfAnother(preferred: number): number {
  const program = `import { freePort } from ${JSON.stringify(join(import.meta.dirname, "../src/programs/ports.ts"))}; console.log(await freePort(${preferred}));`;
  return Number(execFileSync(process.execPath, ["--input-type=module", "--eval", program], { encoding: "utf8" }));
}

test("no port is given twice while nobody listens on it yet", async () => {
  const ports = await Promise.all(Array.from({ length: 500 }, () => freePort()));
  expect(new Set(ports).size).toBe(ports.length);
});

test("a port is kept from other processes, and may be listened on here", async () => {
  const port = await freePort();
  expect(portOfAnother(port)).not.toBe(port);
  expect(await isFree(port)).toBe(true);
});

test("the port that is preferred is given where it is free, and another one where somebody listens", async () => {
  const other = portOfAnother(0);
  expect(await freePort(other)).toBe(other);
  const port = await freePort();
  const server = createServer().listen(port, "127.0.0.1");
  expect(await freePort(port)).not.toBe(port);
  server.close();
});
