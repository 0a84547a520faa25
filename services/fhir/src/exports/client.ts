/** What this service asks of others about exports, as the caller. */
import type { Ask, AskStream, Call } from "../protocol/calls.ts";

/** An export as patient-service has it: the patients as they were at the cutoff. */
export type Export = { exportId: string; cutoff: string; since?: string; patients: number; expiresAt: string };

const newline = 0x0a;
/**
 * V8 stores a text with a letter beyond Latin-1 in two bytes a letter. All lines that arrive at once (64 KiB) in one
 * such text would be too large for its young generation, and stay in memory until the old one is collected.
 */
const linesAtOnce = 32;

export type Exports = ReturnType<typeof createExports>;

export function createExports(ask: Ask, askStream: AskStream, askAuth: Ask) {
  const one = (id: string) => `/patients/exports/${encodeURIComponent(id)}`;

  return {
    /** @throws AppError not_found without such a team, resource_exhausted if the caller has too many */
    async create(call: Call, { team, since }: { team: string | undefined; since: string | undefined }): Promise<Export> {
      if (team !== undefined) await askAuth(call, "/auth/teams/{id}", `/auth/teams/${encodeURIComponent(team)}`);
      return (await ask(call, "/patients/exports", "/patients/exports", { method: "POST", body: { team, since } })) as Export;
    },

    async read(call: Call, id: string): Promise<Export> {
      return (await ask(call, "/patients/exports/{id}", one(id))) as Export;
    },

    async remove(call: Call, id: string): Promise<void> {
      await ask(call, "/patients/exports/{id}", one(id), { method: "DELETE" });
    },

    /** The lines of a stream, a few at a time. */
    async lines(call: Call, id: string, stream: "patients" | "deletions", signal: AbortSignal): Promise<AsyncGenerator<string[]>> {
      return splitLines(await askStream(call, `/patients/exports/{id}/${stream}`, `${one(id)}/${stream}`, signal));
    },
  };
}

async function* splitLines(body: ReadableStream<Uint8Array>): AsyncGenerator<string[]> {
  let rest: Uint8Array = new Uint8Array();
  for await (const chunk of body) {
    const bytes = Buffer.concat([rest, chunk]);
    let lines: string[] = [];
    let start = 0;
    for (let end = bytes.indexOf(newline); end !== -1; end = bytes.indexOf(newline, start)) {
      lines.push(bytes.toString("utf8", start, end));
      start = end + 1;
      if (lines.length < linesAtOnce) continue;
      yield lines;
      lines = [];
    }
    if (lines.length > 0) yield lines;
    rest = bytes.subarray(start);
  }
}
