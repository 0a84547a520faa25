/**
 * The form of a Patient and its data types, so that what is stored is right and what is kept stays valid
 * (http://hl7.org/fhir/R4/patient.html, http://hl7.org/fhir/R4/datatypes.html).
 */
import type { FieldError } from "@pm/kit/errors";
import { z } from "zod";

const string = z.string().regex(/\S/, "must not be empty");
const uri = z.string().regex(/^\S+$/, "must be a URI, without spaces");
const code = z.string().regex(/^[^\s]+( [^\s]+)*$/, "must be a code");
const calendar = String.raw`\d{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01])`;
const date = z.string().regex(new RegExp(`^${calendar})?)?$`), "must be a date as YYYY, YYYY-MM or YYYY-MM-DD");
const clock = String.raw`T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?(Z|[+-]\d\d:\d\d)`;
const dateTime = z.string().regex(new RegExp(`^${calendar}(${clock})?)?)?$`), "must be a date, or an instant with its time zone");
const word = <Words extends string>(...all: Words[]) => z.enum(all, { error: `must be one of ${all.join(", ")}` });

/** Extensions stay as they are. Their values may have any type that begins with `value`. */
type Extension = { url: string; extension?: Extension[]; [value: `value${string}`]: unknown };
const valueName = /^_?value[A-Z]\w*$/;
const extension: z.ZodType<Extension> = z.lazy(() =>
  z.looseObject({ url: uri, id: string.optional(), extension: z.array(extension).optional() }).superRefine((fields, context) => {
    const values = Object.keys(fields).filter((key) => !["url", "id", "extension"].includes(key));
    for (const key of values) if (!valueName.test(key)) context.addIssue({ code: "unrecognized_keys", keys: [key], input: fields });
    if (values.length === 0 && !fields.extension) context.addIssue("must have a value or extensions");
  }),
) as never;

const inEach = { id: string.optional(), extension: z.array(extension).min(1).optional() };
const primitive = z.strictObject(inEach);

/** An element with these fields. Each may also have extensions of its own, such as `_birthDate`. */
function element<Shape extends z.ZodRawShape>(shape: Shape) {
  const companions = Object.keys(shape).map((name) => [`_${name}`, z.union([primitive, z.array(primitive.nullable())]).optional()]);
  const optional = Object.entries(shape).map(([name, schema]) => [name, (schema as z.ZodType).optional()]);
  type Optional = { [Name in keyof Shape]: z.ZodOptional<Shape[Name]> };
  return z
    .strictObject({ ...(Object.fromEntries(companions) as object), ...(Object.fromEntries(optional) as Optional), ...inEach })
    .refine((fields) => Object.keys(fields).some((name) => name !== "id"), "must not be empty");
}
const list = <Schema extends z.ZodType>(schema: Schema) => z.array(schema).min(1, "must not be an empty list");

const Period = element({ start: dateTime, end: dateTime });
const Coding = element({ system: uri, version: string, code, display: string, userSelected: z.boolean() });
const CodeableConcept = element({ coding: list(Coding), text: string });
const identifierUses = word("usual", "official", "temp", "secondary", "old");
const IdentifierOfReference = element({ use: identifierUses, type: CodeableConcept, system: uri, value: string, period: Period });
const Reference = element({ reference: string, type: uri, identifier: IdentifierOfReference, display: string });
const Identifier = element({ use: identifierUses, type: CodeableConcept, system: uri, value: string, period: Period, assigner: Reference });
const HumanName = element({
  use: word("usual", "official", "temp", "nickname", "anonymous", "old", "maiden"),
  text: string,
  family: string,
  given: list(string),
  prefix: list(string),
  suffix: list(string),
  period: Period,
});
const ContactPoint = element({
  system: word("phone", "fax", "email", "pager", "url", "sms", "other"),
  value: string,
  use: word("home", "work", "temp", "old", "mobile"),
  rank: z.int().positive(),
  period: Period,
});
const Address = element({
  use: word("home", "work", "temp", "old", "billing"),
  type: word("postal", "physical", "both"),
  text: string,
  line: list(string),
  city: string,
  district: string,
  state: string,
  postalCode: string,
  country: string,
  period: Period,
});
const Attachment = element({
  contentType: code,
  language: code,
  data: z.base64(),
  url: uri,
  size: z.int(),
  hash: z.base64(),
  title: string,
  creation: dateTime,
});
const gender = word("male", "female", "other", "unknown");

const PatientSchema = element({
  resourceType: z.literal("Patient"),
  meta: element({
    versionId: string,
    lastUpdated: z.string(),
    source: uri,
    profile: list(uri),
    security: list(Coding),
    tag: list(Coding),
  }),
  language: code,
  text: element({ status: word("generated", "extensions", "additional", "empty"), div: z.string() }),
  identifier: list(Identifier),
  active: z.boolean(),
  name: list(HumanName),
  telecom: list(ContactPoint),
  gender,
  birthDate: date,
  deceasedBoolean: z.boolean(),
  deceasedDateTime: dateTime,
  address: list(Address),
  maritalStatus: CodeableConcept,
  multipleBirthBoolean: z.boolean(),
  multipleBirthInteger: z.int(),
  photo: list(Attachment),
  contact: list(
    element({
      relationship: list(CodeableConcept),
      name: HumanName,
      telecom: list(ContactPoint),
      address: Address,
      gender,
      organization: Reference,
      period: Period,
    }),
  ),
  communication: list(element({ language: CodeableConcept, preferred: z.boolean() })),
  generalPractitioner: list(Reference),
  managingOrganization: Reference,
  link: list(element({ other: Reference, type: word("replaced-by", "replaces", "refer", "seealso") })),
});

/** The elements of a Patient itself, with the extensions of each, such as `_birthDate`. */
export const elementNames: ReadonlySet<string> = new Set(Object.keys(PatientSchema.shape));

/** What a server that does not understand it must not take, and what belongs to other resources. */
const notTaken = new Set(["modifierExtension", "implicitRules", "contained"]);

/** `Patient.name[0].given`, as FHIRPath. */
const pathOf = (path: PropertyKey[]): string =>
  path.reduce<string>((text, key) => (typeof key === "number" ? `${text}[${key}]` : `${text}.${String(key)}`), "Patient");

/** What of a body is no Patient, by the FHIRPath of each element. Empty if all of it is one. */
export function faultsOf(body: unknown): FieldError[] {
  const { error } = PatientSchema.safeParse(body);
  return (error?.issues ?? []).flatMap((issue) =>
    issue.code === "unrecognized_keys"
      ? issue.keys.map((key) => ({
          path: pathOf([...issue.path, key]),
          message: notTaken.has(key) ? "cannot be stored here; leave it out" : "is not an element of FHIR R4; check its spelling",
        }))
      : [{ path: pathOf(issue.path), message: issue.message }],
  );
}
