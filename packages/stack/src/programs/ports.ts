import { randomInt } from "node:crypto";
import { createServer, type Server } from "node:net";
import { hasProgram, run } from "./child.ts";
import { commandLine } from "./processes.ts";

/**
 * Returns a free port that no other caller gets while this process lives. It lies below the kernel's range for outgoing
 * connections. Otherwise a client that keeps trying to reach a killed broker could be assigned the broker's port,
 * connect to itself, and keep the broker from starting again.
 */
export async function freePort(preferred?: number): Promise<number> {
  if (preferred !== undefined && (await reserve(preferred))) return preferred;
  for (;;) {
    const port = 2 * randomInt(5_000, 16_000) + 1;
    if (await reserve(port)) return port;
  }
}

/**
 * Reserves a port for this process by listening on its neighbour: ports come in pairs. Seconds pass between choosing a
 * port and listening on it, and another test run may choose meanwhile. The reservation ends with the process.
 */
async function reserve(port: number): Promise<boolean> {
  const neighbour = await listen(port ^ 1, "127.0.0.1");
  if (neighbour instanceof Error) return false;
  neighbour.on("connection", (socket) => socket.destroy()).unref();
  if (await isFree(port)) return true;
  neighbour.close();
  return false;
}

/** Whether a server can listen on the port, on all interfaces and on the loopback interface. */
export async function isFree(port: number): Promise<boolean> {
  for (const host of ["127.0.0.1", "0.0.0.0", "::"]) if (!(await canListen(port, host))) return false;
  return true;
}

/** The process that listens on a port, such as `pid 4711 (python3 -m http.server)`, if the system says so. */
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
