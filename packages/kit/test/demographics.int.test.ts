/** Demographics go from stored events in SQL, exactly as the protobuf library would leave them out. */
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { PatientEventSchema } from "@pm/proto/patient/v1/events";
import { testDatabase } from "@pm/stack/testing";
import fc from "fast-check";
import { Pool } from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";

let pool: Pool;
let drop: () => Promise<void>;
beforeAll(async () => {
  const database = await testDatabase("patient");
  pool = new Pool({ connectionString: database.databaseUrl, max: 1 });
  drop = database.drop;
});
afterAll(async () => {
  await pool.end();
  await drop();
});

async function strip(payload: Uint8Array): Promise<Buffer> {
  const { rows } = await pool.query("select event_without_demographics($1) as payload", [Buffer.from(payload)]);
  return rows[0].payload;
}

const text = fc.string({ unit: "grapheme", maxLength: 300 });
const demographics = fc.record({ dateOfBirth: text, sex: text, city: text, state: text, partialDateOfBirth: text });
const happened = fc.oneof(
  demographics.map((each) => ({ case: "registered" as const, value: { demographics: each, registeredDate: "2026-01-02" } })),
  fc
    .tuple(demographics, fc.array(text))
    .map(([each, changedFields]) => ({ case: "updated" as const, value: { demographics: each, changedFields, registeredDate: "" } })),
  demographics.map((each) => ({ case: "restored" as const, value: { demographics: each, registeredDate: "2026-01-02" } })),
  fc.tuple(demographics, text).map(([each, id]) => ({ case: "merged" as const, value: { demographics: each, mergedPatientId: id } })),
  fc.tuple(demographics, text).map(([each, id]) => ({ case: "unmerged" as const, value: { demographics: each, unmergedPatientId: id } })),
  fc.constant({ case: "deleted" as const, value: {} }),
  text.map((erasureId) => ({ case: "erased" as const, value: { erasureId } })),
);
const events: fc.Arbitrary<MessageInitShape<typeof PatientEventSchema>> = fc.record({
  patientId: text,
  version: fc.bigInt({ min: 0n, max: 2n ** 62n }),
  event: happened,
});

test("only the demographics go, whatever the event", async () => {
  await fc.assert(
    fc.asyncProperty(events, async (init) => {
      const message = create(PatientEventSchema, init);
      const stripped = await strip(toBinary(PatientEventSchema, message));
      const value = message.event.value as { demographics?: unknown } | undefined;
      if (value && "demographics" in value) value.demographics = undefined;
      expect(fromBinary(PatientEventSchema, stripped)).toEqual(message);
      expect(stripped).toEqual(Buffer.from(toBinary(PatientEventSchema, message)));
    }),
    { numRuns: 300 },
  );
});

test("of bytes that are no message nothing is left", async () => {
  for (const broken of ["\u00ff\u00ff", "\u0007", "Ada Lovelace", "\u000a\u00ffx"])
    expect(await strip(Buffer.from(broken, "latin1"))).toHaveLength(0);
});

test("a message that is stripped already stays as it is", async () => {
  await fc.assert(
    fc.asyncProperty(events, async (init) => {
      const stripped = await strip(toBinary(PatientEventSchema, create(PatientEventSchema, init)));
      expect(await strip(stripped)).toEqual(stripped);
    }),
    { numRuns: 50 },
  );
});
