import { expect, test } from "vitest";
import { createExports } from "./client.ts";
import { readRequest, readStatus } from "./exports.ts";

const sinceOf = (text: string) => readRequest("$export", new URLSearchParams(text), "strict").since;

test("_since is an instant as FHIR has it", () => {
  expect([sinceOf(""), sinceOf("_since=2026-01-28T09:30:00.5%2B02:00"), sinceOf("_since=2026-01-28T09:30:00Z")]).toEqual([
    ...[undefined, "2026-01-28T07:30:00.500Z", "2026-01-28T09:30:00.000Z"],
  ]);
  // A client may leave the plus as it is.
  expect(sinceOf("_since=2026-01-28T09:30:00+02:00")).toBe("2026-01-28T07:30:00.000Z");
});

test.each([
  ...["", "2026", "2026-01-28", "Nov 1", "yesterday", "1", "2026-01-28T09:30Z", "2026-01-28T09:30:00", "2026-02-30T09:30:00Z"],
  ...["gt2026-01-28T09:30:00Z", "2026-01-28T25:30:00Z", "2026-01-28T09:30:00Z,2026-01-28T09:30:00Z", "0000-01-01T00:00:00Z"],
])("%j is no _since", (text) => {
  for (const query of [{ _since: text }, { _since: text, _type: "Patient" }])
    expect(() => sinceOf(String(new URLSearchParams(query)))).toThrow(
      expect.objectContaining({
        code: "invalid_argument",
        options: { errors: [{ path: "_since", message: expect.stringMatching(/instant/) }] },
      }),
    );
});

test("what was asked for is read from the address that it stands in", () => {
  expect(readStatus("Patient/$export?_type=Patient")).toMatchObject({ request: "Patient/$export?_type=Patient", types: ["Patient"] });
  expect(readStatus("Group/cardiology/$export").request).toBe("Group/cardiology/$export");
  for (const wrong of ["", "Patient", "Group//$export", "x/$export", "$export/x"])
    expect(() => readStatus(wrong)).toThrow(expect.objectContaining({ code: "invalid_argument" }));
});

test("lines arrive whole, wherever their stream is cut", async () => {
  const lines = Array.from({ length: 100 }, (_, line) => `{"name":"Bảo Hoa ${line}"}`);
  const bytes = Buffer.from(lines.map((line) => `${line}\n`).join(""));
  for (const size of [1, 7, 1_000, bytes.length]) {
    const chunks = Array.from({ length: Math.ceil(bytes.length / size) }, (_, chunk) => bytes.subarray(chunk * size, (chunk + 1) * size));
    const never = () => Promise.reject(new Error("asks for the stream only"));
    const exports = createExports(never, async () => ReadableStream.from(chunks), never);
    const read: string[] = [];
    const call = { authorization: "", requestId: "" };
    for await (const few of await exports.lines(call, "1", "patients", AbortSignal.abort())) read.push(...few);
    expect(read).toEqual(lines);
  }
});
