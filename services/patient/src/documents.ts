/** The bodies as the OpenAPI document shows them. What a written body means is decided by `record.ts`. */
import { z } from "@hono/zod-openapi";
import { sexes } from "./schema.ts";

/** Any JSON: `record.ts` says what is wrong with it in words that help. */
const writtenBody = z.unknown();

const date = z.iso.date().openapi({ example: "1987-04-12" });

export const PatientSchema = z
  .object({
    id: z.uuid(),
    name: z.string(),
    firstName: z.string().optional(),
    lastName: z.string().optional(),
    email: z.string(),
    phoneNumber: z.string().optional().openapi({ description: "E.164" }),
    dateOfBirth: date,
    address: z.object({
      text: z.string(),
      street: z.string().optional(),
      city: z.string().optional(),
      state: z.string().optional(),
      zipCode: z.string().optional(),
    }),
    sex: z.enum(sexes).optional(),
    registeredDate: date,
    version: z.int(),
    createdAt: z.iso.datetime(),
    updatedAt: z.iso.datetime(),
    billing: z.object({ status: z.enum(["active", "pending"]), accountId: z.uuid().optional() }),
  })
  .openapi("Patient");

export const PatientPageSchema = z
  .object({
    items: z.array(PatientSchema),
    nextCursor: z.string().optional(),
    totalEstimate: z.int().optional(),
  })
  .openapi("PatientPage");

export const PatientCreateSchema = writtenBody.openapi("PatientCreate", { type: "object" });
