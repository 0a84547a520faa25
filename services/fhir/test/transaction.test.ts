/** How many requests a transaction makes of what it names. */
import { expect, test } from "vitest";
import { createTransactions } from "../src/bundles/transaction.ts";
import { createPatients, type Operation } from "../src/patients/client.ts";
import { createPatientRules } from "../src/patients/patients.ts";
import type { Ask } from "../src/protocol/calls.ts";

const system = "urn:oid:1.2.3";
const idOf = (at: number) => `0193b3f0-8c1a-7b6e-9d2f-${String(at).padStart(12, "0")}`;
const stored = (at: number) => ({
  ...{ id: idOf(at), version: 1, createdAt: "2026-11-28T09:30:00.000Z", updatedAt: "2026-11-28T09:30:00.000Z" },
  ...{ names: [{ id: "1", text: "Ada", family: "Ada" }], identifiers: [{ id: "1", system, value: `${at}` }] },
});
const resource = (at: number) => ({
  resourceType: "Patient" as const,
  name: [{ family: "King" }],
  identifier: [{ system, value: `${at}` }],
});

test("a hundred updates, by ids and by identifiers, read their patients in two requests and write them in one", async () => {
  const asked: string[] = [];
  let written: Operation[] = [];
  const ask: Ask = async (_, route, __, { body } = {}) => {
    asked.push(route);
    if (route === "/patients:batch") {
      written = (body as { operations: Operation[] }).operations;
      return { results: written.map((_operation, at) => ({ status: 200, id: idOf(at), version: 2, patient: stored(at) })) };
    }
    const [{ anyOf }] = (body as { where: [{ anyOf: string[] }] }).where;
    return { items: anyOf.map((text) => stored(Number(text.split(/[|-]/).at(-1)))) };
  };
  const patients = createPatients(ask);
  const { write } = createTransactions({ base: "https://clinic.example", patients, rules: createPatientRules(patients) });
  const entries = Array.from({ length: 100 }, (_, at) =>
    at % 2 === 0
      ? { resource: { ...resource(at), id: idOf(at) }, request: { method: "PUT" as const, url: `Patient/${idOf(at)}` } }
      : { resource: resource(at), request: { method: "PUT" as const, url: `Patient?identifier=${system}|${at}` } },
  );
  const answers = await write({ authorization: "", requestId: "" }, entries, "minimal");
  expect([...answers.values()].map(({ response }) => response?.status)).toEqual(Array(100).fill("200 OK"));
  expect(asked).toEqual(["/patients:search", "/patients:search", "/patients:batch"]);
  expect(written.map((operation) => "id" in operation && operation.id)).toEqual(entries.map((_, at) => idOf(at)));
});
