/** Calls go on when the pod that answered them is gone: its connection is open and says nothing more. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { Health } from "@pm/proto/grpc/health/v1/health";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { testLifecycle } from "../../test/lifecycle.ts";
import { createRestApp } from "../http/rest.ts";
import { createLogger } from "../log.ts";
import { transportTo } from "./client.ts";
import { createGuard } from "./guard.ts";
import { listenRpc } from "./server.ts";

const log = createLogger("test", "silent");
const lifecycle = testLifecycle();
const audit = { record: async () => undefined };
const verifier = { verify: () => Promise.reject(new Error("nobody signs in")), onRevoked: () => () => undefined };

/** What is written on these connections gets lost. */
const cutOff = new Set<Socket>();
const connections = new Set<Socket>();
let proxyUrl = "";
beforeAll(async () => {
  const rest = createRestApp({ service: "billing", title: "T", description: "D", log, lifecycle, verifier, audit });
  const guard = createGuard({ log, verifier, audit });
  const how = { guard, host: "127.0.0.1", port: 0, log, lifecycle };
  const server = await listenRpc({ routes: () => undefined, services: [], rest: rest.app, ...how });
  const { port } = server.address() as AddressInfo;
  const proxy = createServer((from) => {
    const to = connect({ port, host: "127.0.0.1" });
    connections.add(from);
    for (const [source, target] of [
      [from, to],
      [to, from],
    ] as const) {
      source.on("data", (bytes) => cutOff.has(from) || target.write(bytes));
      source.on("error", () => undefined);
      source.on("close", () => target.destroy());
    }
  });
  await once(proxy.listen(0, "127.0.0.1"), "listening");
  proxyUrl = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
  lifecycle.onClose("proxy", () => void proxy.close());
});
afterAll(async () => {
  for (const each of connections) each.destroy();
  await lifecycle.shutdown("the test has ended");
});

async function check(client: Client<typeof Health>, timeoutMs: number): Promise<string> {
  return client.check({}, { timeoutMs }).then(
    () => "answered",
    (error: unknown) => Code[ConnectError.from(error).code] ?? "",
  );
}

test("a call that meets its deadline takes its connection out of use, and the next call is answered on another", async () => {
  const client = createClient(Health, transportTo(proxyUrl));
  expect(await check(client, 1_000)).toBe("answered");
  for (const each of connections) cutOff.add(each);
  const before = connections.size;
  const together = [300, 300, 900].map((timeoutMs) => check(client, timeoutMs));
  expect(await together[0]).toBe("DeadlineExceeded");
  await delay(50);
  expect(await check(client, 1_000)).toBe("answered");
  // What still waits on the first connection keeps its time.
  expect(await Promise.all(together)).toEqual(Array(3).fill("DeadlineExceeded"));
  expect(await Promise.all([1, 2, 3].map(() => check(client, 1_000)))).toEqual(Array(3).fill("answered"));
  expect(connections.size).toBe(before + 1);
});

test("a connection that breaks after another has replaced it ends nothing", async () => {
  const client = createClient(Health, transportTo(proxyUrl));
  expect(await check(client, 1_000)).toBe("answered");
  const old = [...connections];
  for (const each of old) cutOff.add(each);
  const waiting = check(client, 2_000);
  expect(await check(client, 200)).toBe("DeadlineExceeded");
  await delay(50);
  expect(await check(client, 1_000)).toBe("answered");
  for (const each of old) each.resetAndDestroy();
  expect(await waiting).not.toBe("answered");
  expect(await check(client, 1_000)).toBe("answered");
});

test("a server that accepts no connection is given up in seconds, and asked anew by the next call", { timeout: 30_000 }, async () => {
  const listen = 'const s = require("net").createServer().listen(0, "127.0.0.1", 1, () => console.log(s.address().port))';
  const frozen = spawn(process.execPath, ["-e", listen], { stdio: ["ignore", "pipe", "inherit"] });
  onTestFinished(() => void frozen.kill("SIGKILL"));
  const [line] = (await once(frozen.stdout, "data")) as [Buffer];
  const port = Number(line);
  frozen.kill("SIGSTOP");
  // The kernel opens connections for the frozen process until its queue is full. Later attempts get no answer.
  const queued = Array.from({ length: 4 }, () => connect({ port, host: "127.0.0.1" }).on("error", () => undefined));
  await delay(200);
  const client = createClient(Health, transportTo(`http://127.0.0.1:${port}`));
  const began = performance.now();
  expect(await check(client, 20_000)).toBe("Unavailable");
  expect(performance.now() - began).toBeLessThan(4_000);
  for (const each of queued) each.destroy();
  frozen.kill("SIGKILL");
  expect(await check(client, 20_000)).toBe("Unavailable");
});
