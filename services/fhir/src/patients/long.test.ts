/**
 * A resource of a megabyte may have tens of thousands of elements. Reading it takes as long as it is, and not the
 * square of that.
 */
import type { Patient } from "fhir/r4.js";
import { expect, test } from "vitest";
import type { PatientBody } from "./patient.ts";
import { readPatient } from "./writing.ts";

const shapes: [name: string, make: (n: number) => object][] = [
  ["extension", (n) => ({ url: "urn:of", valueString: `${n}` })],
  ["name", (n) => ({ family: `King ${n}`, extension: [{ url: "urn:of", valueString: `${n}` }] })],
  ["name", (n) => ({ id: `own-${n}`, family: `King ${n}` })],
  ["telecom", (n) => ({ system: "phone", value: `+1217555${n}` })],
  ["telecom", (n) => ({ system: "fax", value: `+1217555${n}` })],
  ["identifier", (n) => ({ system: "urn:of", value: `${n}` })],
  ["address", (n) => ({ city: `Springfield ${n}` })],
  ["contact", (n) => ({ name: { text: `Ralph ${n}` } })],
  ["communication", (n) => ({ language: { coding: [{ system: "urn:ietf:bcp:47", code: `en-${n}` }] } })],
];

/** As much as is stored of a record at most. */
const maxKept = 500;
const maxEntries = 20;

test.each(shapes)("of %s, eight times as many take about eight times as long to read and to write again (%#)", (name, make) => {
  const measure = (length: number): number => {
    const resource = { resourceType: "Patient", [name]: Array.from({ length }, (_, n) => make(n)) } as Patient;
    const first = readPatient({ ...resource, [name]: (resource[name as "name"] ?? []).slice(0, maxKept) });
    const lists = Object.entries(first.body).map(([list, value]) => [list, Array.isArray(value) ? value.slice(0, maxEntries) : value]);
    const body: PatientBody = { ...Object.fromEntries(lists), fhirElements: JSON.stringify(first.kept) };
    const times = Array.from({ length: 3 }, () => {
      const before = process.cpuUsage();
      readPatient(resource, { body, links: undefined });
      const { user } = process.cpuUsage(before);
      return user;
    });
    return Math.min(...times);
  };
  measure(1_000);
  // The square would be 64 times as long, each time. Garbage may fall into one of them.
  let least = Number.POSITIVE_INFINITY;
  for (let tries = 0; tries < 3 && least >= 32; tries++) least = Math.min(least, measure(8_000) / measure(1_000));
  expect(least).toBeLessThan(32);
});
