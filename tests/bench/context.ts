/** What every part of the bench gets: a running platform, clients for it, and the baselines. */
import type { Platform } from "@pm/stack/platform";
import { type Dispatcher, Pool } from "undici";
import { type Baselines, createBaselines } from "./baselines.ts";
import type { Row } from "./measure.ts";
import type { Processes } from "./processes.ts";

export type BenchContext = {
  platform: Platform;
  processes: Processes;
  baselines: Baselines;
  /** An access token of the admin that is valid for at least another minute. */
  token: () => Promise<string>;
  /**
   * One request over a kept HTTP/1.1 connection, as the admin or with the token `as`. A body is sent as JSON, or as
   * lines of JSON if it is a text.
   * @throws Error if the status is not `status` (200).
   */
  http: (
    base: string,
    method: "GET" | "POST",
    path: string,
    options?: { body?: unknown; status?: number; anonymous?: boolean; as?: string | undefined },
  ) => Promise<string>;
};

/** Each part of the bench exports one of these as `rows`. It may prepare data first. */
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
  return { platform, processes, baselines: createBaselines(platform), token, http };
}

/** One request by undici's lowest interface. Its streams and promises would use as much of the cores as a service. */
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
