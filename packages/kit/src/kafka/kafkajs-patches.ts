/**
 * Patches of kafkajs 2.2.4, which has had no release since 2023 (docs/decisions/0007-kafkajs-is-patched.md). Importing
 * this file applies them. A test compares what is sent and read with what the unpatched kafkajs sends and reads.
 */
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);

/**
 * kafkajs polls the request queue of each connection every millisecond, even when it is empty (its issues 1556 and
 * 1704). That costs 3 % of a core in each idle process, and logs warnings about a negative timeout. Polls only when
 * requests are pending; every new request that has to wait starts a poll.
 */
type RequestQueue = { pending: unknown[]; scheduleCheckPendingRequests(): void };
const { prototype: requestQueue } = require("kafkajs/src/network/requestQueue") as { prototype: RequestQueue };
const { scheduleCheckPendingRequests } = requestQueue;
requestQueue.scheduleCheckPendingRequests = function (this: RequestQueue) {
  if (this.pending.length > 0) scheduleCheckPendingRequests.call(this);
};

/**
 * kafkajs creates an encoder for each header and each record of a message. Each encoder allocates and clears 512 bytes,
 * and an array and a buffer for each number: 22 CPU microseconds per message. With bytes from Node's pool, allocated at
 * the first write, and numbers written in place it is 9.
 */
type Encoder = { buf: Buffer; offset: number; ensureAvailable(length: number): void; writeUVarInt(value: number): Encoder };
const encoders = require("kafkajs/src/protocol/encoder") as { prototype: Encoder; nextPowerOfTwo(value: number): number };
const { nextPowerOfTwo } = encoders;
const defaultSize = 511;
encoders.nextPowerOfTwo = (value) => (value === defaultSize ? 0 : nextPowerOfTwo(value));
encoders.prototype.ensureAvailable = function (this: Encoder, length) {
  const needed = this.offset + length;
  if (needed <= this.buf.length) return;
  const larger = Buffer.allocUnsafe(Math.max(128, 2 * needed));
  this.buf.copy(larger, 0, 0, this.offset);
  this.buf = larger;
};
encoders.prototype.writeUVarInt = function (this: Encoder, value) {
  this.ensureAvailable(5);
  let rest = value;
  for (; rest >>> 7 !== 0; rest >>>= 7) this.buf[this.offset++] = (rest & 0x7f) | 0x80;
  this.buf[this.offset++] = rest;
  return this;
};

/**
 * The headers of a message are the only array that kafkajs reads by this method. It keeps a buffer for each header and
 * copies all earlier ones into a new object, seven times per message. Here headers are read as texts, into one object.
 */
type Decoder = { buffer: Buffer; offset: number; readVarInt(): number; readVarIntArray(): { reduce(): Record<string, string> } };
const { prototype: decoder } = require("kafkajs/src/protocol/decoder") as { prototype: Decoder };
decoder.readVarIntArray = function (this: Decoder) {
  const readText = (): string => {
    const end = this.readVarInt() + this.offset;
    const text = this.buffer.toString("utf8", this.offset, end);
    this.offset = Math.max(this.offset, end);
    return text;
  };
  const headers: Record<string, string> = {};
  for (let left = this.readVarInt(); left > 0; left--) {
    const name = readText();
    const value = readText();
    headers[name] = Object.hasOwn(headers, name) ? `${headers[name]},${value}` : value;
  }
  return { reduce: () => headers };
};
