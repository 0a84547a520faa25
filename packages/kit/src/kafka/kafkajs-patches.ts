/**
 * What is mended in kafkajs 2.2.4, of which there has been no release since 2023. Importing this file is enough. A test
 * compares what is sent and read with what kafkajs as it comes would send and read.
 */
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);

/**
 * It looks through the waiting requests of every connection each millisecond, for ever, also where none waits (its issues 1556
 * and 1704): three hundredths of a core in each idle process, and a warning about a negative timeout. A look is needed only
 * while something waits, and every new request that has to wait asks for one.
 */
type RequestQueue = { pending: unknown[]; scheduleCheckPendingRequests(): void };
const { prototype: requestQueue } = require("kafkajs/src/network/requestQueue") as { prototype: RequestQueue };
const { scheduleCheckPendingRequests } = requestQueue;
requestQueue.scheduleCheckPendingRequests = function (this: RequestQueue) {
  if (this.pending.length > 0) scheduleCheckPendingRequests.call(this);
};

/**
 * Each header and each record of a message is written by an encoder of its own, which begins with 512 bytes that are cleared
 * and belong to nobody else, and makes an array and a buffer for each number: 22 CPU microseconds a message, 9 with bytes from
 * Node's pool, taken when there is something to write, and numbers written where they belong.
 */
type Encoder = { buf: Buffer; offset: number; ensureAvailable(length: number): void; writeUVarInt(value: number): Encoder };
const encoders = require("kafkajs/src/protocol/encoder") as { prototype: Encoder; nextPowerOfTwo(value: number): number };
const { nextPowerOfTwo } = encoders;
const sizeWhereNoneIsSaid = 511;
encoders.nextPowerOfTwo = (value) => (value === sizeWhereNoneIsSaid ? 0 : nextPowerOfTwo(value));
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
 * The headers of a message are the only array of this kind that is read. Of each it keeps a buffer, and copies all before it
 * into a new object: seven times a message. Here they are texts, which is what becomes of them, put into one object.
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
