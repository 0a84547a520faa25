/** Stands between all clients and the gateway, and keeps every answer for the validator. */
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export type Answer = { request: string; status: number; type: string; body: string };
export type Recorder = { url: string; answers: Answer[]; stop(): Promise<void> };

/** Of the answer these are for one connection, or no longer true. */
const ofConnection = new Set(["connection", "content-encoding", "content-length", "keep-alive", "transfer-encoding"]);

/** Links to FHIR in answers lead back to the recorder, so that clients which follow them stay with it. */
export async function startRecorder(gatewayUrl: string): Promise<Recorder> {
  const answers: Answer[] = [];
  const fhir = `${gatewayUrl}/fhir/`;
  const pass = async (request: IncomingMessage, response: ServerResponse) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const { host: _host, connection: _connection, "content-length": _length, ...headers } = request.headers as Record<string, string>;
    const { method = "GET", url = "/" } = request;
    const found = await fetch(`${gatewayUrl}${url}`, {
      method,
      headers,
      redirect: "manual",
      ...(chunks.length > 0 && { body: Buffer.concat(chunks) }),
    });
    const here = (text: string) => text.replaceAll(fhir, `${recorder.url}/fhir/`);
    const body = here(await found.text());
    const type = found.headers.get("content-type") ?? "";
    if (url.startsWith("/fhir/")) answers.push({ request: `${method} ${url}`, status: found.status, type, body });
    for (const [name, value] of found.headers) if (!ofConnection.has(name)) response.setHeader(name, here(value));
    response.writeHead(found.status).end(body);
  };
  const server = createServer((request, response) => {
    pass(request, response).catch((error: unknown) => response.destroy(error as Error));
  });
  // Clients keep connections, and would use one that has just been closed.
  server.keepAliveTimeout = 600_000;
  await once(server.listen(0, "127.0.0.1"), "listening");
  const recorder: Recorder = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    answers,
    async stop() {
      server.close();
      server.closeAllConnections();
    },
  };
  return recorder;
}

/** The resources in an answer: each line of NDJSON, or the whole body. The manifest of an export is JSON, and none. */
export const resourcesIn = ({ type, body }: Answer): string[] => {
  if (type.startsWith("application/fhir+ndjson")) return body.split("\n").filter((line) => line !== "");
  return type.startsWith("application/fhir+json") && body !== "" ? [body] : [];
};
