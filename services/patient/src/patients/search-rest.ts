/** The search by fields: a POST, so that no address that is logged anywhere has what is looked for. */
import { createRoute, z } from "@hono/zod-openapi";
import type { Cursors } from "@pm/kit/cursor";
import { pageCursor } from "@pm/kit/http/paging";
import type { RestApp } from "@pm/kit/http/rest";
import { jsonAnswer, jsonBody } from "@pm/kit/http/schemas";
import { callOf } from "../caller.ts";
import type { RecordSettings } from "../config.ts";
import { maxCarried, openCarried, sealCarried } from "./carried-search.ts";
import { sincePattern } from "./changes.ts";
import { type Lists, sorts } from "./list.ts";
import { toPageBody } from "./request.ts";
import { PatientPageSchema } from "./schemas.ts";
import { readWhere } from "./where.ts";
import { recordStates, textForms, whereFields } from "./where-store.ts";

const example = {
  where: [
    { field: "family" as const, is: "start" as const, anyOf: ["love", "king"] },
    { field: "dateOfBirth" as const, anyOf: ["ge1987", "1976-05"] },
    { field: "phone" as const, missing: false },
  ],
  sort: "name" as const,
  limit: 20,
};

const SearchSchema = z
  .strictObject({
    where: z
      .array(
        z.strictObject({
          field: z.enum(whereFields),
          is: z
            .enum(textForms)
            .optional()
            .openapi({
              description: `How a text is compared: \`start\` (the default) and \`contains\` regardless of case and accents, \`exact\` as it is written.
A phone number is read as in a record.`,
            }),
          anyOf: z
            .array(z.string().min(1).max(500))
            .min(1)
            .max(200)
            .optional()
            .openapi({
              description: `One of these is enough. \`identifier\`: \`system|value\`, \`system|\` or a value of any system. \`dateOfBirth\`: a day, month or
year, after \`eq\`, \`ne\`, \`gt\`, \`ge\`, \`lt\`, \`le\`, \`sa\` or \`eb\`, as FHIR compares dates that are ranges. \`updatedAt\`: an instant after
\`gt\`, \`ge\`, \`lt\` or \`le\`. \`deceased\`: \`true\` or \`false\`. \`sex\`: \`unknown\` also finds who has none.`,
            }),
          missing: z.boolean().optional().openapi({ description: "Instead of `anyOf`: whether the record says nothing in this field." }),
        }),
      )
      .max(20)
      .optional()
      .openapi({ description: "All of these hold." }),
    states: z
      .array(z.enum(recordStates))
      .min(1)
      .max(recordStates.length)
      .optional()
      .openapi({ description: "Which records: `living` ones (the default), those that were `merged` into another one, `deleted` ones." }),
    updatedAfter: z.string().max(100).optional().openapi({
      pattern: sincePattern,
      description: "As in the list: what changed later, and nothing left out.",
      example: "2026-01-28T09:30:00Z",
    }),
    sort: z.enum(sorts).optional().openapi({ description: "By default the order of creation." }),
    limit: z.int().min(1).max(200).optional().openapi({ description: "50 by default." }),
    cursor: pageCursor(z.string().min(1).max(maxCarried)),
    carry: z
      .boolean()
      .optional()
      .openapi({
        description: `Whether \`nextCursor\` carries this search, encrypted. The next page is then asked for by \`cursor\` without \`where\`, \`states\`,
\`updatedAfter\` and \`sort\`, such as by a link that is to have no names.`,
      }),
    count: z.enum(["exact", "none"]).optional().openapi({
      description: "`exact` adds `total` to the first page, `none` leaves `totalEstimate` out.",
    }),
  })
  .openapi("PatientSearch", { example });

const searchPatients = createRoute({
  operationId: "searchPatients",
  method: "post",
  path: "/patients:search",
  tags: ["Patients"],
  summary: "Find patients by their fields",
  description: `For programs that know which field they mean; people are better served by \`q\` of the list, which forgives errors of typing. A
search for a name, an e-mail, a phone number, an identifier, an id or a date of birth looks in an index. One for anything else alone
walks through the patients in the order asked for until a page is full, so it takes as long as its matches are rare; and \`sort\` by
\`updatedAt\` reads all matches.`,
  request: { body: jsonBody(SearchSchema) },
  responses: { 200: jsonAnswer(PatientPageSchema, "A page of patients") },
});

type Parts = { lists: Lists; settings: RecordSettings; cursors: Cursors };

export function registerSearch({ operation }: RestApp, { lists, settings, cursors }: Parts): void {
  operation(searchPatients, async (c) => {
    const { limit = 50, cursor, carry, count, ...given } = c.req.valid("json");
    const call = callOf(c);
    const { asked, cursor: place, isCarried } = openCarried(cursors, call.actorId, { asked: given, cursor });
    const { where = [], states = ["living"], ...rest } = asked;
    const conditions = readWhere(where, states, settings.phoneRegion);
    const page = await lists.page(call, { ...rest, limit, cursor: place, count, where: conditions, deleted: "include" });
    const { nextCursor } = page;
    if (nextCursor === undefined || !(carry || isCarried)) return c.json(toPageBody(page), 200);
    return c.json(toPageBody({ ...page, nextCursor: sealCarried(cursors, call.actorId, asked, nextCursor) }), 200);
  });
}
