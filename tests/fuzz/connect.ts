/**
 * Calls billing by Connect JSON with what its proto allows, nearly allows, and does not allow at all. Whatever arrives,
 * the answer comes within the deadline, is a message of the method or an error that a client can read, and is no
 * failure of ours.
 */
import { type DescField, type DescMessage, type DescMethod, fromBinary, fromJson, type JsonValue, ScalarType } from "@bufbuild/protobuf";
import { BillingService } from "@pm/proto/billing/v1/billing";
import { ErrorInfoSchema } from "@pm/proto/google/rpc/error_details";
import fc from "fast-check";

const deadlineMs = 5_000;
/** A stream that nothing happens in is ended by its own deadline. */
const streamDeadlineMs = 100;

type Call = { method: DescMethod; body: string };

/** Ids and tokens of earlier answers by the name of their field, so that calls meet what exists. */
const seen = new Map<string, string[]>();

function remember(name: string, value: unknown): void {
  if (Array.isArray(value)) for (const item of value) remember(name, item);
  else if (value !== null && typeof value === "object") for (const [key, inner] of Object.entries(value)) remember(key, inner);
  else if (typeof value === "string" && value !== "") seen.set(name, [...(seen.get(name) ?? []), value].slice(-50));
}

const anyText = fc.oneof(
  fc.string({ unit: "grapheme", maxLength: 20 }),
  fc.string({ unit: "binary", maxLength: 20 }),
  fc.constantFrom("", " ", "\0", "\ud800", "\u202e", "x".repeat(5_000), "2026-02-30", "2026-11-27", "-0001-01-01", "9999-12-31", "EUR"),
  fc.constantFrom("JPY", "ZZZ", "eur", "00000000-0000-0000-0000-000000000000", "ada@example.com", "../..", "null", "1e3", "NaN"),
  fc.uuid(),
);
const anyNumber = fc.oneof(
  fc.bigInt({ min: -(2n ** 65n), max: 2n ** 65n }).map(String),
  fc.constantFrom("1", "1000", "-1", "0", "9223372036854775807", "-9223372036854775808", "1000000000000", "1000000000001", "0x10", "1.5"),
  fc.integer(),
  fc.double(),
);

const momentsFromNow = (first: number, last: number) =>
  fc.integer({ min: first * 24, max: last * 24 }).map((hours) => new Date(Date.now() + hours * 3_600_000).toISOString());
const daysFromNow = (first: number, last: number) => momentsFromNow(first, last).map((moment) => moment.slice(0, 10));

/** Texts that fields with such names take. */
const usualTexts: [RegExp, fc.Arbitrary<string>][] = [
  [/^requestId$/, fc.uuid()],
  [/^dueDate$/, daysFromNow(0, 300)],
  [/Date$/, daysFromNow(-300, 0)],
  [/^(pageToken|etag)$/, fc.constant("")],
  [/^currencyCode$/, fc.constantFrom("EUR", "EUR", "EUR", "JPY")],
  [/^email$/, fc.constant("ada@example.com")],
  [/^(name|description|reason|reference)$/, fc.constantFrom("Ada", "Visit", "Zoë 👩‍⚕️")],
];
const usualNumbers: [RegExp, fc.Arbitrary<unknown>][] = [
  [/^minorUnits$/, fc.constantFrom("1", "250", "1000", "1000000000000")],
  [/^pageSize$/, fc.constantFrom(0, 1, 2, 1_000)],
];
const byName = <Value>(usual: [RegExp, fc.Arbitrary<Value>][], name: string) => usual.find(([names]) => names.test(name))?.[1];

/** Mostly what such a field takes; now and then what it might take, or any JSON. */
const mostly = (usual: fc.Arbitrary<unknown>, unusual: fc.Arbitrary<unknown>) =>
  fc.oneof({ weight: 60, arbitrary: usual }, { weight: 3, arbitrary: unusual }, { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 3 }) });

function scalarOf({ scalar, jsonName: name }: DescField): fc.Arbitrary<unknown> {
  if (scalar === ScalarType.BOOL) return mostly(fc.boolean(), fc.constantFrom("true", 1));
  if (scalar !== ScalarType.STRING) return mostly(byName(usualNumbers, name) ?? fc.constant("0"), anyNumber);
  const values = () => seen.get(name.replace(/Ids$/, "Id")) ?? [""];
  const known = fc.nat().map((index) => values()[index % values().length]);
  return mostly(byName(usualTexts, name) ?? known, fc.oneof(known, anyText));
}

function fieldOf(field: DescField, depth: number): fc.Arbitrary<unknown> {
  const single = () => {
    if (field.message) return messageOf(field.message, depth + 1);
    if (!field.enum) return scalarOf(field);
    const [, ...names] = field.enum.values.map((value) => value.name);
    return mostly(fc.constantFrom(...names), fc.oneof(fc.integer({ min: -1, max: 9 }), anyText));
  };
  return field.fieldKind === "list" ? fc.array(single(), { minLength: 1, maxLength: 2 }) : single();
}

/** Each field is missing now and then; of a oneof, one field is there. */
function messageOf(message: DescMessage, depth = 0): fc.Arbitrary<unknown> {
  if (message.typeName === "google.protobuf.Timestamp") return mostly(momentsFromNow(-300, 0), anyText);
  if (message.typeName === "google.protobuf.FieldMask") return mostly(fc.constantFrom("name", "status", "name,email"), anyText);
  if (depth > 3) return fc.constant({});
  const members = message.members.map((member) => {
    const fields = member.kind === "oneof" ? member.fields : [member];
    return fc.oneof(...fields.map((field) => fieldOf(field, depth).map((value) => [field.jsonName, value] as const)));
  });
  const entries = fc.tuple(...members.map((member) => fc.option(member, { freq: 15 })));
  const whole = entries.map((present) => Object.fromEntries(present.filter((entry) => entry !== null)));
  const unknown = fc.dictionary(fc.string({ maxLength: 8 }), fc.jsonValue({ maxDepth: 2 }), { minKeys: 1, maxKeys: 2 });
  return fc.oneof(
    { weight: 60, arbitrary: whole },
    { weight: 1, arbitrary: fc.tuple(unknown, whole).map(([more, body]) => ({ ...more, ...body })) },
  );
}

/** A piece of a text is cut out, doubled or replaced. */
const damaged = (text: fc.Arbitrary<string>) =>
  fc.tuple(text, fc.nat(), fc.nat(9), fc.constantFrom("", "{", "}", '"', ",", "\\u0000", "\0", "1e999", "[[[[", "\ufeff")).map((parts) => {
    const [whole, at, length, other] = parts;
    const start = at % (whole.length + 1);
    return whole.slice(0, start) + other + whole.slice(start + length);
  });

const callOf = (method: DescMethod): fc.Arbitrary<Call> => {
  const body = messageOf(method.input).map((message) => JSON.stringify(message));
  return fc.record({
    method: fc.constant(method),
    body: fc.oneof({ weight: 20, arbitrary: body }, { weight: 1, arbitrary: damaged(body) }),
  });
};

const anyCall = fc.oneof(...BillingService.methods.map(callOf));

type Failure = { code?: string; message?: string; details?: { type: string; value: string }[] };

function checkError(error: Failure): void {
  if (!error.code || ["internal", "unknown", "data_loss", "unavailable", "unimplemented"].includes(error.code))
    throw new Error(`the error has the code ${error.code}`);
  const info = error.details?.find(({ type }) => type === "google.rpc.ErrorInfo");
  // Deadlines are ended by the library, which knows no details.
  if (!info && error.code !== "deadline_exceeded") throw new Error(`the error ${error.code} has no google.rpc.ErrorInfo`);
  if (info && fromBinary(ErrorInfoSchema, Buffer.from(info.value, "base64")).reason === "") throw new Error("the error has no reason");
}

async function callUnary(url: string, token: string, { method, body }: Call): Promise<void> {
  const started = performance.now();
  const response = await fetch(`${url}/${method.parent.typeName}/${method.name}`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${token}`,
      "content-type": "application/json",
      "connect-protocol-version": "1",
      "connect-timeout-ms": String(deadlineMs),
    },
    body: Buffer.from(body),
    signal: AbortSignal.timeout(2 * deadlineMs),
  });
  const answer = JSON.parse(await response.text()) as JsonValue;
  if (performance.now() - started > deadlineMs + 500)
    throw new Error(`the answer came after ${Math.round(performance.now() - started)} ms`);
  if (response.status >= 500) throw new Error(`HTTP ${response.status}: ${JSON.stringify(answer)}`);
  if (response.status !== 200) return checkError(answer as Failure);
  fromJson(method.output, answer, { ignoreUnknownFields: false });
  remember("", answer);
}

/** A stream ends with a frame that says whether there was an error. */
async function callStream(url: string, token: string, { method, body }: Call): Promise<void> {
  const message = Buffer.from(body);
  const frame = Buffer.alloc(5 + message.length);
  frame.writeUInt32BE(message.length, 1);
  message.copy(frame, 5);
  const response = await fetch(`${url}/${method.parent.typeName}/${method.name}`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${token}`,
      "content-type": "application/connect+json",
      "connect-protocol-version": "1",
      "connect-timeout-ms": String(streamDeadlineMs),
    },
    body: frame,
    signal: AbortSignal.timeout(streamDeadlineMs + deadlineMs),
  });
  const answer = Buffer.from(await response.arrayBuffer());
  if (response.status >= 500) throw new Error(`HTTP ${response.status}`);
  for (let at = 0; at < answer.length; ) {
    const [flags, length] = [answer.readUInt8(at), answer.readUInt32BE(at + 1)];
    const content = JSON.parse(answer.subarray(at + 5, at + 5 + length).toString()) as { error?: Failure };
    if (flags === 2 && content.error) checkError(content.error);
    if (flags === 0) fromJson(method.output, content as JsonValue, { ignoreUnknownFields: false });
    at += 5 + length;
  }
}

/**
 * Calls for this many seconds, one call after the other.
 * @throws Error with the smallest call that still fails, and the seed
 */
export async function fuzzConnect(
  target: { url: string; token: string; patientIds: string[] },
  seconds: number,
  seed: number,
): Promise<number> {
  const { url, token, patientIds } = target;
  seen.set("patientId", patientIds);
  let calls = 0;
  const property = fc.asyncProperty(anyCall, async (call) => {
    calls += 1;
    await (call.method.methodKind === "unary" ? callUnary : callStream)(url, token, call);
  });
  await fc.assert(property, {
    ...{ seed, numRuns: Number.MAX_SAFE_INTEGER, interruptAfterTimeLimit: seconds * 1_000 },
    reporter(details) {
      if (!details.failed) return;
      const [call] = details.counterexample ?? [];
      throw new Error(`${call?.method.name} ${call?.body}\n  ${details.errorInstance ?? "failed"} (seed ${seed})`);
    },
  });
  return calls;
}
