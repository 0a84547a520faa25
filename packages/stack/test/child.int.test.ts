import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { expect, test } from "vitest";
import { run, startChild } from "../src/programs/child.ts";
import { isAlive } from "../src/programs/processes.ts";
import { until } from "../src/programs/server.ts";

const shell = (script: string) => ({ name: "child", command: "sh", args: ["-c", script] });

test("a child's lines arrive one by one, and the last ones are kept", async () => {
  const lines: string[] = [];
  const child = await startChild({ ...shell("echo one; echo two >&2; printf three"), onLog: (line) => lines.push(line) });
  expect(await child.exited).toEqual({ code: 0, signal: null });
  expect(lines.toSorted()).toEqual(["one", "three", "two"]);
  expect(child.tail().toSorted()).toEqual(["one", "three", "two"]);
  expect(child.running()).toBe(false);
});

test("only the owner can read what a child writes: npm start has mails with links there", async () => {
  const logFile = join(mkdtempSync(join(tmpdir(), "pm-child-")), "child.log");
  const child = await startChild({ ...shell("echo a link"), logFile });
  await child.exited;
  expect([readFileSync(logFile, "utf8"), statSync(logFile).mode & 0o777]).toEqual(["a link\n", 0o600]);
  rmSync(dirname(logFile), { recursive: true });
});

test("a child that does not listen is killed when its grace is over", async () => {
  const child = await startChild(shell("trap '' TERM; echo deaf; while :; do sleep 0.1; done"));
  await expect.poll(() => child.tail()).toContain("deaf");
  await child.stop(300);
  expect((await child.exited).signal).toBe("SIGKILL");
});

test("a frozen child can be stopped", async () => {
  const child = await startChild(shell("exec sleep 60"));
  child.signal("SIGSTOP");
  await child.stop();
  expect((await child.exited).signal).toBe("SIGTERM");
});

test("a program that does not exist is named", async () => {
  await expect(startChild({ name: "x", command: "no-such-program", args: [] })).rejects.toThrow("cannot run no-such-program");
});

test("a program that fails is shown with what it said", async () => {
  await expect(run("sh", ["-c", "echo because; exit 3"])).rejects.toThrow(/exit code 3\):\nbecause/);
});

test("children end with a parent that is killed, frozen ones too", { timeout: 30_000 }, async () => {
  const program = `
    import { startChild } from ${JSON.stringify(new URL("../src/programs/child.ts", import.meta.url).href)};
    const start = () => startChild({ name: "sleep", command: "sleep", args: ["60"] });
    const [one, frozen] = [await start(), await start()];
    frozen.signal("SIGSTOP");
    console.log(one.pid + " " + frozen.pid);
    setInterval(() => {}, 1000);
  `;
  const parent = spawn(process.execPath, ["--input-type=module-typescript", "-e", program], { stdio: ["ignore", "pipe", "inherit"] });
  const [line] = (await once(createInterface({ input: parent.stdout }), "line")) as [string];
  const pids = line.split(" ").map(Number);
  expect(pids.map(isAlive)).toEqual([true, true]);
  parent.kill("SIGKILL");
  await until(
    () => !pids.some(isAlive),
    20_000,
    () => "children of a killed parent are still there",
  );
});
