/** What a file of rows gets: a running platform of the bench's own, and clients for it. */
import type { Platform } from "@pm/stack/platform";
import { type Dispatcher, Pool } from "undici";
import type { Processes, Row } from "./measure.ts";

export type BenchContext = {
  platform: Platform;
  processes: Processes;
  /** An access token of the admin, always valid for another minute or more. */
  token: () => Promise<string>;
  /** JSON, or lines of JSON where the body is a text, over HTTP/1.1 with kept connections, as the admin or with the token `as`. @throws Error where the status is not `status`. */
  http: (
    base: string,
    method: "GET" | "POST",
    path: string,
    options?: { body?: unknown; status?: number; anonymous?: boolean; as?: string | undefined },
  ) => Promise<string>;
};

/** A file of rows: `tests/bench/<part>.ts` exports one of these as `rows`. It may prepare data first. */
export type Rows = (context: BenchContext) => Promise<Row[]>;

export function createContext(platform: Platform): BenchContext {
  const pools = new Map<string, Pool>();
  let current: { token: Promise<string>; until: number } | undefined;

  const http: BenchContext["http"] = async (base, method, path, { body, status = 200, anonymous = false, as } = {}) => {
    let pool = pools.get(base);
    if (!pool) {
      pool = new Pool(base, { connections: 64, pipelining: 1 });
      pools.set(base, pool);
    }
    const headers = {
      ...(body !== undefined && { "content-type": typeof body === "string" ? "application/x-ndjson" : "application/json" }),
      ...(!anonymous && { authorization: `Bearer ${as ?? (await token())}` }),
    };
    const content = body === undefined ? null : typeof body === "string" ? body : JSON.stringify(body);
    const { code, text } = await send(pool, { method, path, headers, body: content });
    if (code !== status) throw new Error(`${method} ${path.split("?")[0]} answered ${code}: ${text.slice(0, 300)}`);
    return text;
  };

  const token = (): Promise<string> => {
    if (current && Date.now() < current.until) return current.token;
    const login = http(platform.gatewayUrl, "POST", "/auth/login", { body: platform.admin, anonymous: true }).then((text) => {
      const { token, expiresIn } = JSON.parse(text) as { token: string; expiresIn: number };
      if (current) current.until = Date.now() + (expiresIn - 60) * 1_000;
      return token;
    });
    current = { token: login, until: Date.now() + 10_000 };
    return login;
  };

  const processes: Processes = {
    envoy: () => platform.envoy.pids(),
    postgres: () => platform.postgres.pids(),
    kafka: () => platform.kafka.pids(),
    ...Object.fromEntries(Object.entries(platform.services).map(([name, service]) => [name, () => [service.pid]])),
  };
  return { platform, processes, token, http };
}

/** One request by undici's lowest interface: its streams and promises would take as much of the two cores as a service does. */
function send(pool: Pool, options: Dispatcher.DispatchOptions): Promise<{ code: number; text: string }> {
  return new Promise((resolve, reject) => {
    let code = 0;
    const chunks: Buffer[] = [];
    pool.dispatch(options, {
      onRequestStart() {},
      onResponseStart(_, statusCode) {
        code = statusCode;
      },
      onResponseData(_, chunk) {
        chunks.push(chunk);
      },
      onResponseEnd() {
        resolve({ code, text: Buffer.concat(chunks).toString() });
      },
      onResponseError(_, error) {
        reject(error);
      },
    });
  });
}
