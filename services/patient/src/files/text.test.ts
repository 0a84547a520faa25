import fc from "fast-check";
import { expect, test } from "vitest";
import { declaredCharset, readText, readUtf8 } from "./text.ts";

function streamOf(bytes: Uint8Array, lengths: number[]): ReadableStream<Uint8Array> {
  let [at, turn] = [0, 0];
  return new ReadableStream({
    pull(controller) {
      if (at >= bytes.length) return controller.close();
      const length = lengths[turn++ % lengths.length] ?? 1;
      controller.enqueue(bytes.slice(at, at + length));
      at += length;
    },
  });
}

async function textOf(bytes: Uint8Array, charset: Parameters<typeof readText>[1] = "utf-8", lengths = [16_384]): Promise<string> {
  return (await Array.fromAsync(readText(streamOf(bytes, lengths), charset))).join("");
}

/** More than is examined before anything is stored. */
const examined = Buffer.from(`${"x".repeat(1023)}\n`.repeat(1024));
const utf16 = (text: string) => Buffer.from(text, "utf16le");

test.each([
  ["text/csv", "utf-8"],
  ["text/csv; charset=UTF-8", "utf-8"],
  ['text/csv; header=present; Charset="windows-1252"', "windows-1252"],
  ["text/csv;charset=ISO-8859-1", "windows-1252"],
  ["text/csv; charset=utf-16le", "utf-16"],
  ["text/csv; charset=big5", undefined],
  ["text/csv; charset=", undefined],
  ["text/csv; charset=constructor", undefined],
])("%s declares %s", (contentType, charset) => {
  expect(declaredCharset(contentType)).toBe(charset);
});

test("Windows' letters are read where they are declared", async () => {
  expect(await textOf(Buffer.from("Zo\xeb \x8ei\x9eek \x80", "latin1"), "windows-1252")).toBe("Zoë Žižek €");
});

test.each(["utf-8", "utf-16", "windows-1252"] as const)("a byte order mark counts more than the charset %s", async (declared) => {
  expect(await textOf(Buffer.from("\uFEFFZoë"), declared)).toBe("Zoë");
  expect(await textOf(utf16("\uFEFFZoë"), declared)).toBe("Zoë");
});

test("a byte that is not UTF-8 refuses the file by its line, and one behind the first MiB becomes half of a surrogate pair", async () => {
  const wrong = Buffer.from("Z\xfcrich", "latin1");
  const { options } = await textOf(Buffer.concat([Buffer.from("a\r\nb\rc\n"), wrong])).catch((error) => error);
  expect(options.errors).toEqual([{ path: "line 4", message: expect.stringContaining("is not UTF-8") }]);
  expect((await textOf(Buffer.concat([examined, wrong]))).slice(examined.length)).toBe("Z\udc80rich");
  await expect(Array.fromAsync(readUtf8(streamOf(wrong, [1])))).rejects.toThrow("line 1");
});

test.each([
  ["UTF-8", "utf-8", Buffer.from("Zürich 😀").subarray(0, -1)],
  ["UTF-16", "utf-16", utf16("Zürich 😀").subarray(0, -2)],
  ["UTF-16", "utf-16", utf16("Zürich").subarray(0, -1)],
] as const)("a file in %s that ends inside of a character is refused", async (_, charset, bytes) => {
  await expect(textOf(bytes, charset)).rejects.toThrow("line 1");
});

test("text is read as it was written, in whatever pieces it comes, also where the examined bytes end", { timeout: 120_000 }, async () => {
  const unit = fc.constantFrom("a", "é", "€", "😀", "\uFEFF", "\uFFFD", "\n");
  const lengths = fc.array(fc.integer({ min: 1, max: 400_000 }), { minLength: 1, maxLength: 4 });
  await fc.assert(
    fc.asyncProperty(fc.string({ unit, minLength: 1, maxLength: 30 }), fc.nat(40), lengths, async (text, before, sizes) => {
      const whole = `${examined.toString().slice(0, -before || undefined)}${text}`;
      expect(await textOf(Buffer.from(whole), "utf-8", sizes)).toBe(whole);
      expect(await textOf(utf16(whole), "utf-16", sizes)).toBe(whole);
    }),
    { numRuns: 15 },
  );
});

test("of any bytes those that are UTF-8 are read right, and each other one becomes half of a surrogate pair", {
  timeout: 120_000,
}, async () => {
  const sequence = fc.oneof(
    fc.constantFrom("a", "é", "€", "😀").map((character) => Buffer.from(character)),
    fc.uint8Array({ minLength: 1, maxLength: 4 }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(sequence, { maxLength: 12 }), async (sequences) => {
      const bytes = Buffer.concat(sequences);
      const text = (await textOf(Buffer.concat([examined, bytes]), "utf-8", [400_000])).slice(examined.length);
      // U+FFFD stands there for one or more wrong bytes in a row.
      expect(text.replace(/\udc80+/g, "\uFFFD")).toBe(
        new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes).replace(/\uFFFD+/g, "\uFFFD"),
      );
      expect(Buffer.from(text.replaceAll("\udc80", "?")).length).toBe(bytes.length);
    }),
    { numRuns: 60 },
  );
});
