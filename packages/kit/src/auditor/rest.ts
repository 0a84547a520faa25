/**
 * The trail of a service for auditors: `/audit/<service>`, the same in every service. Each look at it is an entry.
 */
import { createRoute, z } from "@hono/zod-openapi";
import { stringify } from "csv-stringify/sync";
import type { Pool } from "pg";
import type { AuditTrail } from "../audit/trail.ts";
import { verifyBlocks } from "../audit/verify.ts";
import { invalidFields } from "../errors.ts";
import { nextCursor, pageCursor, pageLimit, toPage } from "../http/paging.ts";
import { type RestApp, requestContext } from "../http/rest.ts";
import { errorAnswers, jsonAnswer } from "../http/schemas.ts";
import { textStream } from "../http/text-stream.ts";
import { readTrail, type TrailDatabase, type TrailEntry, type TrailFilter, type TrailOf } from "./store.ts";

const id = z.string().regex(/^[1-9]\d{0,17}$/, "must be a number");
const instant = z.iso
  .datetime({ offset: true })
  .refine((text) => !Number.isNaN(Date.parse(text)), "must be an instant, such as 2026-11-28T09:30:00Z")
  .openapi({ example: "2026-11-28T09:30:00Z" });
const word = (max: number) =>
  z
    .string()
    .regex(/^[\w.:@-]+$/, "must have letters, digits and . : @ _ - only")
    .max(max)
    .optional();

const filters = {
  patient: z
    .uuid()
    .toLowerCase()
    .optional()
    .openapi({ description: "Entries about this patient, and lists and exports that showed them." }),
  actor: word(200).openapi({ description: "Who did it: the id of a user, `client:<id>` or `service:<name>`." }),
  id: id.optional().openapi({ description: "Only the entry with this id.", example: "4711" }),
  action: z
    .string()
    .regex(/^[\w.:@-]+(,[\w.:@-]+)*$/, "must have letters, digits and . : @ _ - only; commas separate several")
    .max(4_000)
    .optional()
    .openapi({ description: "What was done: one of these words, separated by commas.", example: "patient.read" }),
  requestId: word(64).openapi({ description: "The request id that the answer had." }),
  from: instant.optional().openapi({ description: "From this moment on." }),
  to: instant.optional().openapi({ description: "Before this moment." }),
  disclosures: z.enum(["true", "false"]).default("false").openapi({
    description: "`true`: only what showed or changed data, without refusals and reads of the trail.",
  }),
};
type Query = Omit<z.output<z.ZodObject<typeof filters>>, "patient">;

const EntrySchema = z
  .object({
    id: z.string(),
    at: z.string(),
    actor: z.string(),
    action: z.string(),
    subject: z.string(),
    requestId: z.string(),
    details: z.record(z.string(), z.unknown()),
    block: z
      .object({ number: z.string(), hash: z.string() })
      .optional()
      .openapi({ description: "The block of the chain that seals the entry. Missing for about a second." }),
  })
  .openapi("AuditEntry");

const PageSchema = z.object({ items: z.array(EntrySchema), nextCursor }).openapi("AuditEntries", {
  example: {
    items: [
      {
        ...{ id: "4711", at: "2026-11-28T09:30:00.123456Z", actor: "0193b3f0-8c1a-7b6e-9d2f-3a4b5c6d7e8f", action: "patient.read" },
        ...{ subject: "0193b3f0-91d4-7c3e-8a5b-1f2e3d4c5b6a", requestId: "0b7e4c1d-5a2f-4c8e-9f3b-6d1a2c3b4e5f" },
        ...{ details: { version: 3 }, block: { number: "120", hash: "9f2c41aa" } },
      },
    ],
    nextCursor: "4711",
  },
});

const VerificationSchema = z
  .object({
    intact: z.boolean(),
    from: z.string().openapi({ example: "101", description: "The first block that was verified." }),
    to: z.string().openapi({ example: "120", description: "The last one. A number below `from` says that there are no such blocks." }),
    entries: z.int().openapi({ example: 843 }),
    previousHash: z.string().optional().openapi({ example: "51d0c2e7", description: "The hash of the block before the first one." }),
    head: z.string().optional().openapi({ example: "120:9f2c41aa", description: "Number and hash of the last block." }),
    entryId: z.string().optional().openapi({ description: "The first entry that is wrong.", example: "4711" }),
    problem: z.string().optional().openapi({ description: "What is wrong with it.", example: "it was deleted" }),
  })
  .openapi("AuditVerification", {
    example: { intact: true, from: "101", to: "120", entries: 843, previousHash: "51d0c2e7", head: "120:9f2c41aa" },
  });

function routesOf(service: string) {
  const tags = ["Audit"];
  const listAuditEntries = createRoute({
    operationId: "listAuditEntries",
    method: "get",
    path: `/audit/${service}`,
    tags,
    summary: "Read the audit trail of this service",
    description: "The newest entries first. Reading is an entry itself, which the next answer shows.",
    request: {
      query: z.strictObject({
        ...filters,
        limit: pageLimit({ max: 500 }),
        cursor: pageCursor(id),
      }),
    },
    responses: { 200: jsonAnswer(PageSchema, "A page of entries") },
  });
  const exportAuditEntries = createRoute({
    operationId: "exportAuditEntries",
    method: "get",
    path: `/audit/${service}:export`,
    tags,
    summary: "Export the audit trail of this service as a file",
    description: "A stream, the newest entries first.",
    request: { query: z.strictObject({ ...filters, format: z.enum(["ndjson", "csv"]).default("ndjson") }) },
    responses: {
      200: {
        description: "An entry in each line",
        content: {
          "application/x-ndjson": { schema: z.string().openapi({ example: '{"id":"4711","action":"patient.read"}\n' }) },
          "text/csv": { schema: z.string().openapi({ example: "id,at,actor,action\n" }) },
        },
      },
      ...errorAnswers(),
    },
  });
  const verifyAuditTrail = createRoute({
    operationId: "verifyAuditTrail",
    method: "get",
    path: `/audit/${service}:verify`,
    tags,
    summary: "Verify some blocks of the audit chain",
    description: `Computes every hash again, from the entries as they are now. Begin a further request with the block after \`to\`, and compare
its \`previousHash\` with the hash in \`head\`.`,
    request: {
      query: z.strictObject({
        from: id.default("1").openapi({ description: "The number of the first block." }),
        blocks: z.coerce.number().int().min(1).max(100).default(20),
      }),
    },
    responses: { 200: jsonAnswer(VerificationSchema, "Whether these blocks are intact, or what is wrong first") },
  });
  return { listAuditEntries, exportAuditEntries, verifyAuditTrail };
}

type Parts = {
  service: string;
  db: TrailDatabase & { readonly pool: Pool };
  audit: AuditTrail;
  /** Whose entries an answer about a patient has; by default those about the id of the patient. */
  ofPatient?: (patientId: string) => Promise<TrailOf>;
};

const exportPageSize = 1_000;
const columns = ["id", "at", "actor", "action", "subject", "requestId", "block", "blockHash", "details"];

const ofOneRecord = async (id: string): Promise<TrailOf> => ({ patientIds: [id], subjects: [id] });

export function registerTrail({ operation }: RestApp, { service, db, audit, ofPatient = ofOneRecord }: Parts): void {
  const { listAuditEntries, exportAuditEntries, verifyAuditTrail } = routesOf(service);

  operation(listAuditEntries, async (c) => {
    const { limit, cursor, patient, ...query } = c.req.valid("query");
    await audit.record({ ...requestContext(c), action: "audit.read", subject: patient ?? "audit", details: { ...query } });
    const of = patient === undefined ? undefined : await ofPatient(patient);
    const entries = await readTrail(db, { filter: toFilter(query), of, before: cursor, limit: limit + 1 });
    return c.json(
      toPage(entries.map(toEntry), limit, ({ id }) => id),
      200,
    );
  });

  operation(
    exportAuditEntries,
    async (c) => {
      const { format, patient, ...query } = c.req.valid("query");
      await audit.record({ ...requestContext(c), action: "audit.exported", subject: patient ?? "audit", details: { ...query, format } });
      const of = patient === undefined ? undefined : await ofPatient(patient);
      const filter = toFilter(query);
      async function* text() {
        if (format === "csv") yield `${columns.join(",")}\n`;
        for (let before: string | undefined; ; ) {
          const entries = (await readTrail(db, { filter, of, before, limit: exportPageSize })).map(toEntry);
          yield toLines(entries, format);
          before = entries.at(-1)?.id;
          if (entries.length < exportPageSize) return;
        }
      }
      return c.body(textStream(c, text()), 200, {
        "content-type": `${format === "csv" ? "text/csv" : "application/x-ndjson"}; charset=utf-8`,
        "content-disposition": `attachment; filename="audit-${service}.${format}"`,
        "cache-control": "private, no-store",
      });
    },
    { streams: true },
  );

  operation(verifyAuditTrail, async (c) => {
    const { from, blocks } = c.req.valid("query");
    await audit.record({ ...requestContext(c), action: "audit.verified", subject: "audit", details: { from, blocks } });
    return c.json(await verifyBlocks(db.pool, BigInt(from), blocks), 200);
  });
}

function toFilter({ from, to, disclosures, action, ...query }: Query): TrailFilter {
  if (from !== undefined && to !== undefined && Date.parse(from) > Date.parse(to))
    throw invalidFields([{ path: "to", message: "must not be before from" }]);
  return {
    ...query,
    actions: action?.split(","),
    from: from === undefined ? undefined : new Date(from),
    to: to === undefined ? undefined : new Date(to),
    disclosures: disclosures === "true",
  };
}

type Entry = z.infer<typeof EntrySchema>;

function toEntry({ id, request_id, block_number, block_hash, ...entry }: TrailEntry): Entry {
  const block = block_number !== null && block_hash && { number: String(block_number), hash: block_hash.toString("hex") };
  return { ...entry, id: String(id), requestId: request_id, ...(block && { block }) };
}

function toLines(entries: Entry[], format: "ndjson" | "csv"): string {
  if (format === "ndjson") return entries.map((entry) => `${JSON.stringify(entry)}\n`).join("");
  const rows = entries.map(({ block, details, ...entry }) => ({
    ...{ ...entry, block: block?.number, blockHash: block?.hash, details: JSON.stringify(details) },
  }));
  // Spreadsheets take a cell that begins with =, +, - or @ for a formula.
  return stringify(rows, { columns, escape_formulas: true });
}
