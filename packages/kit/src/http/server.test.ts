/** What is not HTTP gets an answer too. */
import { createServer } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { expect, test } from "vitest";
import { listen } from "./server.ts";

test.each([
  ["hello\r\n\r\n", 400],
  [`GET /${"a".repeat(20_000)} HTTP/1.1\r\nhost: localhost\r\n\r\n`, 431],
])("a malformed request is a problem, with the same request id in its header and its body", async (bytes, status) => {
  const server = createServer();
  await listen(server, "127.0.0.1", 0);
  const socket = connect((server.address() as AddressInfo).port, "127.0.0.1").end(bytes);
  const [head = "", body = ""] = Buffer.concat(await socket.toArray())
    .toString()
    .split("\r\n\r\n");
  const problem = JSON.parse(body);
  expect(problem).toMatchObject({ status, code: "invalid_argument", requestId: expect.stringMatching(/^[0-9a-f-]{36}$/) });
  expect(head).toContain(`HTTP/1.1 ${status} `);
  expect(head).toContain(`\r\nx-request-id: ${problem.requestId}\r\n`);
  server.close();
});
