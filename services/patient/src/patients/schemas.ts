/** What callers get. */
import { z } from "@hono/zod-openapi";
import { nextCursor } from "@pm/kit/http/paging";
import { identifierTypes, maritalStatuses, nameUses, phoneUses, placeUses, sexes } from "../tables.ts";

/** What the OpenAPI document says of itself. */
export const about = {
  title: "Patients",
  description: `The records of patients: registering, finding, changing, sharing, importing and exporting them, with their whole history.

Every operation needs an access token from \`POST /auth/login\` and the scope that it names. Without \`patient:all\` a caller
sees the patients that they own and those that are shared with them or with one of their teams; every other one is 404,
exactly as if it did not exist. A patient that is shared for reading can only be read (403), and only its owner and
callers with \`patient:all\` delete it or change with whom it is shared. Errors are RFC 9457 problems that name every wrong field.`,
};

export const exampleRecord = {
  name: "Ada Lovelace",
  firstName: "Ada",
  lastName: "Lovelace",
  email: "ada@example.com",
  phoneNumber: "+12175550123",
  dateOfBirth: "1987-04-12",
  address: { text: "1 Main St, Springfield, IL 62701", street: "1 Main St", city: "Springfield", state: "IL", zipCode: "62701" },
  sex: "female",
  registeredDate: "2026-01-28",
} as const;

export const exampleContact = { name: "Ralph King", relationship: "son", phone: "+12175550199" };
export const exampleIdentifier = { system: "passport-de", value: "C01X00T47", type: "passport", period: { end: "2034-05-11" } } as const;

export const examplePatient = {
  id: "0193b3f0-8c1a-7b6e-9d2f-3a4b5c6d7e8f",
  ...exampleRecord,
  identifiers: [
    { id: "2", system: "mrn", value: "P1000002" },
    { id: "1", ...exampleIdentifier },
  ],
  names: [
    { id: "1", use: "official" as const, text: exampleRecord.name, given: exampleRecord.firstName, family: exampleRecord.lastName },
    { id: "2", use: "maiden" as const, text: "Ada Byron" },
  ],
  phones: [{ id: "1", value: exampleRecord.phoneNumber, use: "mobile" as const }],
  emails: [{ id: "1", value: exampleRecord.email }],
  addresses: [{ id: "1", ...exampleRecord.address, country: "US" }],
  contacts: [{ id: "1", ...exampleContact }],
  maritalStatus: "married" as const,
  languages: [{ id: "1", language: "en-GB", preferred: true }],
  generalPractitioner: "Dr. William King, Springfield",
  managingSite: "Lakeside Clinic, North",
  version: 1,
  createdAt: "2026-01-28T09:30:00.000Z",
  updatedAt: "2026-01-28T09:30:00.000Z",
  billing: { status: "active" as const, accountId: "5f0c5c1e-6a3c-4a53-9f6c-1f2b3c4d5e6f" },
};

const PeriodSchema = z
  .object({ start: z.string().optional(), end: z.string().optional() })
  .openapi({ description: "Days, months or years: `2026-05-12`, `2026-05` or `2026`." });

const EntrySchema = z.object({ id: z.string().openapi({ description: "Stays while the entry does." }), period: PeriodSchema.optional() });
const IdentifierSchema = EntrySchema.extend({ system: z.string(), value: z.string(), type: z.enum(identifierTypes).optional() });
const AddressSchema = z.object({
  text: z.string(),
  street: z.string().optional(),
  city: z.string().optional(),
  state: z.string().optional(),
  zipCode: z.string().optional(),
});
const NameSchema = EntrySchema.extend({
  text: z.string(),
  use: z.enum(nameUses).optional(),
  prefix: z.string().optional(),
  given: z.string().optional(),
  family: z.string().optional(),
  suffix: z.string().optional(),
});
const PlaceSchema = EntrySchema.extend(AddressSchema.shape).extend({
  use: z.enum(placeUses).optional(),
  country: z.string().optional().openapi({ description: "ISO 3166-1, two letters." }),
});
const ContactSchema = z.object({
  id: z.string(),
  name: z.string(),
  relationship: z.string().optional(),
  phone: z.string().optional(),
  address: z.string().optional(),
});

export const PatientSchema = z
  .object({
    id: z.uuid().openapi({ description: "A UUIDv7; it sorts by time of registration." }),
    name: z.string(),
    firstName: z.string().optional(),
    lastName: z.string().optional(),
    email: z.string().optional(),
    phoneNumber: z.string().optional().openapi({ description: "E.164, with an extension as RFC 3966 writes it: `+12175550123;ext=5`." }),
    dateOfBirth: z.string().openapi({ description: "As it was written: a day or, if the clinic permits it, `1976-05` or `1976`." }),
    address: AddressSchema.optional().openapi({
      description: "`text` is the address in one line. The parts are present if the patient was written with them.",
    }),
    sex: z.enum(sexes).optional(),
    registeredDate: z.iso.date(),
    dateOfBirthEstimated: z.boolean().optional(),
    deceased: z.union([z.boolean(), z.iso.date()]).optional().openapi({ description: "Whether they have died, or on which day." }),
    identifiers: z.array(IdentifierSchema).optional().openapi({
      description:
        "The medical record number, of the system `mrn`, and others. It is missing only until an upgrade has numbered all patients.",
    }),
    maritalStatus: z.enum(maritalStatuses).optional(),
    languages: z
      .array(z.object({ id: z.string(), language: z.string(), preferred: z.boolean().optional() }))
      .optional()
      .openapi({ description: "Languages that the patient speaks (BCP 47)." }),
    generalPractitioner: z.string().optional(),
    managingSite: z.string().optional(),
    fhirElements: z.string().optional().openapi({
      description: "What a FHIR resource says of the patient beyond these fields, as JSON. The FHIR service writes and reads it.",
    }),
    names: z
      .array(NameSchema)
      .openapi({ description: "`name`, `firstName` and `lastName` are those of the first entry; so are the other flat fields of theirs." }),
    phones: z.array(EntrySchema.extend({ value: z.string(), use: z.enum(phoneUses).optional() })).optional(),
    emails: z.array(EntrySchema.extend({ value: z.string(), use: z.enum(placeUses).optional() })).optional(),
    addresses: z.array(PlaceSchema).optional(),
    contacts: z.array(ContactSchema).optional(),
    version: z
      .int()
      .openapi({ description: "The number of the record's latest change, and its ETag. Opening the billing account does not change it." }),
    createdAt: z.iso.datetime(),
    updatedAt: z.iso.datetime(),
    deletedAt: z.iso.datetime().optional().openapi({ description: "When the patient was deleted or merged; missing otherwise." }),
    mergedInto: z.uuid().optional().openapi({
      description: "In lists with `deleted=include`: the record that this one was merged into. Its id leads there.",
    }),
    replaces: z.array(z.uuid()).optional().openapi({
      description: "The records that were merged into this one, also by way of others. Each of them has `mergedInto`.",
    }),
    mergedFrom: z.uuid().optional().openapi({
      description: "The id that was asked for, if it is of a record that was merged into this one. Use this one's from now on.",
    }),
    billing: z
      .object({ status: z.enum(["active", "pending"]), accountId: z.uuid().optional() })
      .openapi({ description: "`pending` until billing has opened the account; it becomes `active` by itself." }),
  })
  .openapi("Patient", { example: examplePatient });

export const RegisteredPatientSchema = PatientSchema.extend({
  possibleDuplicates: z.int().optional().openapi({
    description:
      "How many other patients may be the same person, of those whom you may see who were born on the same day and have names that sound alike. The work list of duplicates has the others too.",
  }),
}).openapi("RegisteredPatient", { example: { ...examplePatient, possibleDuplicates: 0 } });

export const PatientPageSchema = z
  .object({
    items: z.array(PatientSchema),
    nextCursor,
    totalEstimate: z.int().optional().openapi({
      description: "On the first page: how many there are, as the database estimates it. An estimate, unless there is no next page.",
    }),
    total: z.int().optional().openapi({
      description: "On the first page with `count=exact`: how many there are. Missing if counting takes longer than two seconds.",
    }),
    until: z.string().optional().openapi({
      description: "In an answer to `updatedAfter`: send it as the next `updatedAfter`. All pages of an answer have the same.",
    }),
    completeUntil: z.iso
      .datetime()
      .optional()
      .openapi({
        description: `With \`until\`, on the first page, for clients that keep an instant instead: with it as the next \`updatedAfter\`, patients
may be repeated, and none is left out.`,
      }),
  })
  .openapi("PatientPage", { example: { items: [examplePatient], nextCursor: "q1B3x…", totalEstimate: 1_200 } });

export const FieldChangesSchema = z.array(z.object({ field: z.string(), from: z.string().optional(), to: z.string().optional() }));

const principal = z.string().regex(/^[A-Za-z0-9_.:-]{1,64}$/, "must be the id of a user or team: letters, digits and _.:-, at most 64");
const principals = z.array(principal).max(1_000);
const readers = z.strictObject({ users: principals, teams: principals });
const [oneUser, otherUser] = ["7f9c2ba4-e88f-4b3a-a6c5-3f1d2b4c5a69", "0b7e4c1d-5a2f-4c8e-9f3b-6d1a2c3b4e5f"];
const sharingExample = { users: [oneUser], teams: ["cardiology"], readers: { users: [], teams: ["pharmacy"] } };
export const SharingWriteSchema = z
  .strictObject({
    users: principals.openapi({ description: "Users who may read and change the patient." }),
    teams: principals.openapi({ description: "Teams whose members may read and change it." }),
    readers: readers.optional().openapi({ description: "Who may only read it. Without it, nobody. Who is also named above may write." }),
    owner: principal.optional().openapi({ description: "The owner, unless it stays. Only an administrator can name another one." }),
  })
  .openapi("SharingWrite", { example: sharingExample });
export const SharingSchema = z
  .object({
    registeredBy: z.string().openapi({ description: "The user who registered the patient." }),
    owner: z
      .string()
      .openapi({ description: "The user who may also delete and share it: who registered it, unless another one was named." }),
    users: z.array(z.string()),
    teams: z.array(z.string()),
    readers: z.object({ users: z.array(z.string()), teams: z.array(z.string()) }),
  })
  .openapi("Sharing", { example: { registeredBy: otherUser, owner: otherUser, ...sharingExample } });

export const TransferSchema = z
  .strictObject({
    from: principal.openapi({ description: "The id of the user who owns the records." }),
    to: principal.openapi({ description: "The id of the user who is to own them." }),
  })
  .openapi("Transfer", { example: { from: otherUser, to: oneUser } });
export const TransferredSchema = z
  .object({
    transferred: z.int(),
    remaining: z.int().openapi({ description: "If it is not 0, send the same request again." }),
  })
  .openapi("Transferred", { example: { transferred: 500, remaining: 120 } });

const LineErrorSchema = z.object({
  path: z.string(),
  column: z.string().optional().openapi({ description: "The column of CSV, as the file writes it, if it is not the path." }),
  message: z.string(),
});

export const ImportReportSchema = z
  .object({
    importId: z.uuid(),
    dryRun: z.boolean(),
    lines: z.int(),
    created: z.int().openapi({ description: "In a dry run, how many would have been created." }),
    updated: z.int(),
    unchanged: z.int().openapi({ description: "Lines of patients that are as the line says." }),
    failed: z.int(),
    changes: z
      .array(z.object({ line: z.int(), id: z.uuid(), changes: FieldChangesSchema }))
      .optional()
      .openapi({ description: "In a dry run of `update` or `upsert`: what would change, of the first 1,000 lines that change something." }),
    ignoredColumns: z.array(z.string()).openapi({ description: "Columns of CSV that a record has no field for, by their names." }),
    errors: z
      .array(z.object({ line: z.int(), errors: z.array(LineErrorSchema) }))
      .openapi({ description: "The first 10,000 errors, at most twenty of a line." }),
    possibleDuplicates: z.array(z.object({ line: z.int(), possibleDuplicates: z.int() })).openapi({
      description: "The first 10,000 lines whose patients may be registered already, and how many patients may be the same person.",
    }),
  })
  .openapi("ImportReport", {
    example: {
      importId: "0193b3f0-8c1a-7b6e-9d2f-3a4b5c6d7e8f",
      dryRun: false,
      lines: 1_000,
      created: 990,
      updated: 5,
      unchanged: 4,
      failed: 1,
      ignoredColumns: [],
      errors: [{ line: 17, errors: [{ path: "dateOfBirth", column: "DOB", message: "must not be in the future" }] }],
      possibleDuplicates: [{ line: 20, possibleDuplicates: 1 }],
    },
  });

export const TotalsSchema = z
  .object({
    active: z.int(),
    deleted: z.int().openapi({ description: "Those that were deleted or merged into another one." }),
    merged: z.int().openapi({ description: "Those of them that were merged into another one." }),
    withAccount: z.int(),
    withoutAccount: z.int(),
    pendingEvents: z.int().openapi({ description: "Events that are not published yet." }),
    timeZone: z.string().openapi({ description: "The clinic's time zone, whose days count here." }),
    asOf: z.iso.datetime(),
  })
  .openapi("PatientTotals", {
    example: {
      active: 1_200,
      deleted: 3,
      merged: 1,
      withAccount: 1_203,
      withoutAccount: 0,
      pendingEvents: 0,
      timeZone: "Europe/Berlin",
      asOf: "2026-01-28T09:30:00.000Z",
    },
  });
export const IdsSchema = z
  .object({
    ids: z.array(z.uuid()),
    opening: z.array(z.uuid()).openapi({ description: "The ids among them whose billing account this service is about to open." }),
    nextCursor,
  })
  .openapi("PatientIds", { example: { ids: [examplePatient.id], opening: [] } });
