/** What this service asks of others about exports, as the caller. */
import type { Ask, AskStream, Call } from "../protocol/calls.ts";

/** An export as patient-service has it: the patients as they were at the cutoff. */
export type Export = { exportId: string; cutoff: string; since?: string; patients: number; expiresAt: string };

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

    /** The lines of a stream, as many at a time as arrive. */
    async lines(call: Call, id: string, stream: "patients" | "deletions", signal: AbortSignal): Promise<AsyncGenerator<string[]>> {
      return splitLines(await askStream(call, `/patients/exports/{id}/${stream}`, `${one(id)}/${stream}`, signal));
    },
  };
}

async function* splitLines(body: ReadableStream<Uint8Array>): AsyncGenerator<string[]> {
  let rest = "";
  for await (const text of body.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    if (lines.length > 0) yield lines;
  }
}
