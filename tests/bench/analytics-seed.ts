/** Copies the events of two years into the log of analytics, as ingestion would write them. */
import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { BillingEventSchema } from "@pm/proto/billing/v1/events";
import { PatientEventSchema } from "@pm/proto/patient/v1/events";
import pg from "pg";
import { from as copyFrom } from "pg-copy-streams";

const dayMs = 86_400_000;
const sexes = ["female", "male", "female", "male", "other", "unknown", ""];

/** Pseudo-random numbers, the same for the same seed (mulberry32), so that runs can be compared. */
function randomness(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

function uuid(name: string): string {
  const hash = createHash("md5").update(name).digest("hex");
  return `${hash.slice(0, 8)}-${hash.slice(8, 12)}-7${hash.slice(13, 16)}-8${hash.slice(17, 20)}-${hash.slice(20)}`;
}

/**
 * Writes `patients` registrations and on average five billing events for each patient. Returns the number of events.
 */
export async function seedAnalytics(databaseUrl: string, patients: number, now: number): Promise<number> {
  const random = randomness(1);
  const pick = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)] as T;
  let events = 0;

  function line(stream: string, subject: string, version: number, at: number, payload: Uint8Array): string {
    const offset = events++;
    const place = `${stream}\t${offset % 3}\t${Math.floor(offset / 3)}`;
    return `${uuid(`event ${offset}`)}\t${stream}\t${subject}\t\\N\t${version}\t${new Date(at).toISOString()}\t\\\\x${Buffer.from(payload).toString("hex")}\t${place}\n`;
  }
  const billing = (patientId: string, at: number, event: NonNullable<MessageInitShape<typeof BillingEventSchema>["event"]>) => {
    const time = Math.floor(Math.min(at, now));
    const accountId = patientId.replace(/^./, "a");
    const message = create(BillingEventSchema, { accountId, patientId, occurredAt: timestampFromMs(time), event });
    return line("billing.v1", patientId, 0, time, toBinary(BillingEventSchema, message));
  };
  const money = (cents: number) => ({ currencyCode: "EUR", minorUnits: BigInt(cents) });

  function* lines(): Generator<string> {
    for (let index = 0; index < patients; index++) {
      const at = Math.floor(now - 730 * dayMs * (1 - index / patients));
      const patientId = uuid(`patient ${index}`);
      const demographics = {
        dateOfBirth: new Date(now - (1 + random() * 95) * 365.25 * dayMs).toISOString().slice(0, 10),
        sex: pick(sexes),
        // A few big cities and a long tail of villages.
        city: `City ${Math.floor(random() ** 3 * 400)}`,
        state: `S${Math.floor(random() ** 2 * 50)}`,
      };
      const registered = { demographics, registeredDate: new Date(at).toISOString().slice(0, 10), registeredAt: timestampFromMs(at) };
      const message = create(PatientEventSchema, {
        patientId,
        version: 1n,
        occurredAt: timestampFromMs(at),
        event: { case: "registered", value: registered },
      });
      let text = line("patient.v1", patientId, 1, at, toBinary(PatientEventSchema, message));
      text += billing(patientId, at + 50, { case: "accountOpened", value: { currencyCode: "EUR" } });
      const visits = random() < 0.2 ? 3 : 2;
      for (let visit = 0; visit < visits; visit++) {
        const chargeId = uuid(`charge ${index} ${visit}`);
        const cents = 1_000 + Math.floor(random() * 50_000);
        const chargedAt = at + random() * (now - at);
        text += billing(patientId, chargedAt, { case: "chargeCreated", value: { chargeId, amount: money(cents) } });
        if (random() < 0.05) {
          text += billing(patientId, chargedAt + dayMs, { case: "chargeVoided", value: { chargeId, amount: money(cents) } });
        } else if (random() < 0.9) {
          const paymentId = uuid(`payment ${index} ${visit}`);
          const paid = random() < 0.8 ? cents : Math.floor(cents / 2);
          const paidAt = chargedAt + random() ** 2 * 120 * dayMs;
          if (paidAt < now) {
            const allocations = [{ chargeId, amount: money(paid) }];
            text += billing(patientId, paidAt, { case: "paymentRecorded", value: { paymentId, amount: money(paid), allocations } });
          }
        }
      }
      yield text;
    }
  }

  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    await client.query("begin");
    const sink = client.query(
      copyFrom(`copy events (event_id, stream, subject, related, version, occurred_at, payload, topic, partition, "offset") from stdin`),
    );
    await pipeline(Readable.from(lines(), { highWaterMark: 64 }), sink);
    // The past weeks count as published. To publish them would take minutes, beside what is measured.
    await client.query("insert into publications (week, until, seq) select date_trunc('week', now())::date, now(), max(seq) from events");
    await client.query("commit");
  } finally {
    await client.end();
  }
  return events;
}
