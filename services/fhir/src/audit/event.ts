/** Entries of the audit trails as AuditEvents, for auditors. */
import { AppError, invalidFields } from "@pm/kit/errors";
import type { Ask, Call } from "../protocol/calls.ts";
import { codesOf, referenceIn, spanOf, textIn, textsOf } from "../protocol/criteria.ts";
import { nothing, type Page, readable, unlessAbsent } from "../protocol/readable.ts";
import type { Search } from "../protocol/search-parameters.ts";
import { wordsOf } from "./actions.ts";
import { exampleAuditEvent, partsOf, type Source, sources, toAuditEvent, wordSystem } from "./mapping.ts";
import { createTrails, type Filter } from "./trails.ts";

const noEntry = () => new AppError("not_found", "There is no such entry in any trail.");

export function createAuditEvents({ asks, base }: { asks: Record<Source, Ask>; base: string }) {
  const trails = createTrails(asks);

  async function read(call: Call, id: string) {
    const parts = partsOf(id);
    const entry = parts && (await trails.get(call, parts.source, parts.entryId));
    if (!parts || !entry) throw noEntry();
    return toAuditEvent(parts.source, entry);
  }

  return readable<"AuditEvent">({
    type: "AuditEvent",
    example: exampleAuditEvent,
    documentation: "The audit trails of all services as one, the newest entries first, for auditors. Each search is an entry itself.",
    definitions: {
      _id: { type: "token" },
      patient: { type: "reference", documentation: "Entries about this patient, and lists and exports that showed them." },
      date: { type: "date", documentation: "When it was recorded." },
      _lastUpdated: { type: "date", documentation: "The same as date: entries never change." },
      agent: { type: "reference", documentation: "Who did it, as Practitioner." },
      altid: { type: "token", documentation: "Who did it: the id of a user, client:<id> or service:<name>." },
      action: { type: "token", documentation: "C, R, U, D or E" },
      subtype: { type: "token", documentation: "Our word for the action, such as patient.read." },
      site: { type: "token", documentation: `The service: ${sources.join(", ")}. By default all.` },
    },
    includes: {},
    read,

    async search(call, search): Promise<Page> {
      const ids = textsOf(search, "_id");
      const filter = filterOf(search, base);
      const named = codesOf(search, "site", "", Object.fromEntries(sources.map((source) => [source, [source]])));
      if (!filter || named?.length === 0) return nothing;
      if (ids) return { matches: await byIds(ids, (id) => read(call, id), search) };
      const page = { among: named ?? [...sources], count: search.count, cursor: search.cursor };
      const { found, next } = await trails.page(call, filter, page);
      return { matches: found.map(({ source, entry }) => toAuditEvent(source, entry)), next };
    },
  });
}

/** @throws AppError invalid_argument if other parameters narrow ids, which name entries already */
async function byIds<Resource>(ids: string[], read: (id: string) => Promise<Resource>, { criteria }: Search): Promise<Resource[]> {
  const others = criteria.filter(({ name }) => name !== "_id");
  if (others.length > 0) throw invalidFields(others.map(({ name }) => ({ path: name, message: "does not go with _id here" })));
  const found = await Promise.all(ids.map((id) => read(id).catch(unlessAbsent)));
  return found.filter((resource) => resource !== undefined);
}

/** What a search asks of a trail; undefined if nothing can match. */
function filterOf(search: Search, base: string): Filter | undefined {
  const patient = referenceIn(search, base, "Patient", "patient");
  const [agent, altId] = [referenceIn(search, base, "Practitioner", "agent"), textIn(search, "altid", "")];
  const [codes, words] = [
    codesOf(search, "action", "http://hl7.org/fhir/audit-event-action", wordsOf),
    textsOf(search, "subtype", wordSystem),
  ];
  const actions = codes && words ? codes.filter((word) => words.includes(word)) : (codes ?? words);
  const actor = agent ?? altId;
  const { from, to } = spanOf(search, "date", "_lastUpdated");
  const isImpossible = patient === "" || actor === "" || actions?.length === 0 || (agent && altId && agent !== altId);
  if (isImpossible || (from && to && from >= to)) return undefined;
  return {
    ...(patient !== undefined && { patient }),
    ...(actor !== undefined && { actor }),
    ...(actions && { action: actions.join(",") }),
    ...(from && { from: from.toISOString() }),
    ...(to && { to: to.toISOString() }),
  };
}
