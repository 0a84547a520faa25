import { randomInt } from "node:crypto";
import { createServer, type Server } from "node:net";
import { hasProgram, run } from "./child.ts";
import { commandLine } from "./processes.ts";

/**
 * A port nobody listens on, and nobody else gets from here as long as this process lives. Chosen below the range from which
 * the kernel takes the near end of outgoing connections: a client that tries again and again to reach a killed broker could
 * otherwise be given the broker's own port, connect to itself, and keep the broker from starting again.
 */
export async function freePort(preferred?: number): Promise<number> {
  if (preferred !== undefined && (await reserve(preferred))) return preferred;
  for (;;) {
    const port = 2 * randomInt(5_000, 16_000) + 1;
    if (await reserve(port)) return port;
  }
}

/**
 * Seconds pass between choosing a port and listening on it, and another test run may be choosing too. So ports come in pairs: who
 * listens on one of a pair has the other one reserved. The kernel ends that with the process, however it ends.
 */
async function reserve(port: number): Promise<boolean> {
  const neighbour = await listen(port ^ 1, "127.0.0.1");
  if (neighbour instanceof Error) return false;
  neighbour.on("connection", (socket) => socket.destroy()).unref();
  if (await isFree(port)) return true;
  neighbour.close();
  return false;
}

/** Whether a server may listen on that port, on every interface and on the loopback one. */
export async function isFree(port: number): Promise<boolean> {
  for (const host of ["127.0.0.1", "0.0.0.0", "::"]) if (!(await canListen(port, host))) return false;
  return true;
}

/** Who listens on a port, such as `pid 4711 (python3 -m http.server)`, where the system tells. */
export async function holderOf(port: number): Promise<string | undefined> {
  const pid = await pidOnPort(port);
  if (pid === undefined) return undefined;
  const command = commandLine(pid).trim();
  return `pid ${pid}${command === "" ? "" : ` (${command.slice(0, 100)})`}`;
}

async function pidOnPort(port: number): Promise<number | undefined> {
  const attempts: [string, string[], RegExp][] = [
    ["lsof", ["-nP", `-iTCP:${port}`, "-sTCP:LISTEN", "-t"], /^(\d+)/],
    ["ss", ["-ltnpH", `sport = :${port}`], /pid=(\d+)/],
  ];
  for (const [command, args, pattern] of attempts) {
    if (!(await hasProgram(command))) continue;
    const pid = pattern.exec(await run(command, args).catch(() => ""))?.[1];
    if (pid !== undefined) return Number(pid);
  }
  return undefined;
}

async function canListen(port: number, host: string): Promise<boolean> {
  const server = await listen(port, host);
  if (server instanceof Error) return server.code !== "EADDRINUSE" && server.code !== "EACCES";
  await new Promise((resolve) => server.close(resolve));
  return true;
}

function listen(port: number, host: string): Promise<Server | NodeJS.ErrnoException> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", resolve);
    server.listen({ port, host, exclusive: true, ipv6Only: host === "::" }, () => resolve(server));
  });
}
