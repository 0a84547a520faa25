import { randomInt } from "node:crypto";
import { createServer } from "node:net";
import { hasProgram, run } from "./child.ts";
import { commandLine } from "./processes.ts";

/**
 * A port nobody listens on. Chosen below the range from which the kernel takes the near end of outgoing connections:
 * a client that tries again and again to reach a killed broker could otherwise be given the broker's own port, connect
 * to itself, and keep the broker from starting again.
 */
export async function freePort(preferred?: number): Promise<number> {
  if (preferred !== undefined && (await isFree(preferred))) return preferred;
  for (;;) {
    const port = randomInt(10_000, 32_000);
    if (await isFree(port)) return port;
  }
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

function canListen(port: number, host: string): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", (error: NodeJS.ErrnoException) => resolve(error.code !== "EADDRINUSE" && error.code !== "EACCES"));
    server.listen({ port, host, exclusive: true, ipv6Only: host === "::" }, () => server.close(() => resolve(true)));
  });
}
