/** A steady mix of requests through the gateway, and how each was answered. */
import { setTimeout as delay } from "node:timers/promises";

type Work = {
  /** Patients whose creation was answered with 201. */
  created: string[];
  /** The number of requests with the expected answer. */
  answered: number;
  /** The answers of all other requests: a status with its body, or the error of a broken connection. */
  failed: string[];
};

type Load = { work: Work; stop(): Promise<Work> };

const workers = 4;
/** The pause between two requests of a worker. It gives forty requests a second, fewer than any part can take. */
const pauseMs = 80;
let people = 0;

export function startLoad(gatewayUrl: string, admin: { email: string; password: string }): Load {
  const work: Work = { created: [], answered: 0, failed: [] };
  const token = tokenSource(gatewayUrl, admin);
  let stopped = false;

  async function ask(what: string, method: string, path: string, expected: number, body?: unknown): Promise<unknown> {
    try {
      const response = await fetch(gatewayUrl + path, {
        method,
        headers: { authorization: `Bearer ${await token()}`, "content-type": "application/json" },
        signal: AbortSignal.timeout(15_000),
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      const text = await response.text();
      if (response.status !== expected) throw new Error(`${response.status} ${text.slice(0, 200)}`);
      work.answered += 1;
      return JSON.parse(text);
    } catch (error) {
      const cause = error instanceof Error && error.cause instanceof Error ? `: ${error.cause.message}` : "";
      work.failed.push(`${new Date().toISOString()} ${what}: ${error instanceof Error ? error.message : String(error)}${cause}`);
      return undefined;
    }
  }

  async function worker(): Promise<void> {
    while (!stopped) {
      people += 1;
      const email = `load.${process.pid}.${Date.now()}.${people}@example.com`;
      const person = { name: `Load ${people}`, email, address: "1 Load Street", dateOfBirth: "1970-01-01" };
      const patient = (await ask("create", "POST", "/patients", 201, person)) as { id: string } | undefined;
      if (patient) work.created.push(patient.id);
      const others: [string, string, string, unknown?][] = [
        ["list", "GET", "/patients?limit=5"],
        ["who am I", "GET", "/auth/me"],
        ["report", "GET", "/analytics/patients?interval=day"],
        ["accounts", "POST", "/billing.v1.BillingService/ListBillingAccounts", { pageSize: 1 }],
      ];
      if (patient) others.push(["read", "GET", `/patients/${patient.id}`]);
      for (const [what, method, path, body] of others) {
        if (stopped) return;
        await delay(pauseMs);
        await ask(what, method, path, 200, body);
      }
    }
  }

  const running = Promise.all(Array.from({ length: workers }, worker));
  return {
    work,
    async stop() {
      stopped = true;
      await running;
      return work;
    },
  };
}

/** Returns a token that is valid for at least three minutes. Access tokens live for five. */
export function tokenSource(gatewayUrl: string, admin: { email: string; password: string }): () => Promise<string> {
  let current: { token: Promise<string>; until: number } | undefined;
  return () => {
    if (current && Date.now() < current.until) return current.token;
    const token = (async () => {
      const response = await fetch(`${gatewayUrl}/auth/login`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(admin),
        signal: AbortSignal.timeout(15_000),
      });
      const text = await response.text();
      if (response.status !== 200) throw new Error(`login answered ${response.status} ${text.slice(0, 200)}`);
      return (JSON.parse(text) as { token: string }).token;
    })();
    current = { token, until: Date.now() + 120_000 };
    token.catch(() => {
      current = undefined;
    });
    return token;
  };
}
