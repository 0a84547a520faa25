import type { Patient } from "fhir/r4.js";
import type { Operation } from "rfc6902";
import { expect, test } from "vitest";
import { patched } from "./patching.ts";

const resource: Patient = { resourceType: "Patient", id: "1", name: [{ family: "King" }], gender: "female" };
const patch = (...operations: object[]) => patched(resource, operations as Operation[]);

test("operations are applied in their order, to a copy", () => {
  const given = [
    { op: "test", path: "/name/0", value: { family: "King" } },
    { op: "add", path: "/name/-", value: { family: "Byron" } },
    { op: "copy", from: "/name/0/family", path: "/name/1/text" },
    { op: "move", from: "/name/1", path: "/name/0" },
    { op: "replace", path: "/gender", value: "other" },
  ];
  expect(patch(...given)).toEqual({ ...resource, gender: "other", name: [{ family: "Byron", text: "King" }, { family: "King" }] });
  expect(resource.gender).toBe("female");
});

test.each([
  [{ op: "add", path: "/hasOwnProperty/polluted", value: 1 }],
  [{ op: "add", path: "/__proto__/polluted", value: 1 }],
  [{ op: "add", path: "/__proto__", value: { polluted: 1 } }],
  [{ op: "add", path: "/constructor/prototype/polluted", value: 1 }],
  [{ op: "copy", from: "/toString", path: "/gender" }],
  [{ op: "replace", path: "/name/length", value: 4_000_000_000 }],
  [{ op: "add", path: "/name/map/polluted", value: 1 }],
  [{ op: "add", path: "gender", value: "other" }],
  [{ op: "copy", from: 1, path: "/gender" }],
  [{ op: "copy", path: "/gender" }],
  [{ op: "test", path: "/photo" }],
  [{ op: "test", path: "/gender", value: "male" }],
  [{ op: "remove", path: "/photo" }],
  [{ op: "add", path: "/gender/0", value: "male" }],
])("%j does not fit, and reaches no other object", (operation) => {
  const seen = [Object.prototype.hasOwnProperty, Array.prototype.map, Object.prototype];
  expect(() => patch(operation)).toThrow("Operation 0");
  expect(seen.filter((one) => "polluted" in one)).toEqual([]);
});

test("copies that double a patient again and again are refused", () => {
  const bomb = Array.from({ length: 40 }, (_, index) => ({ op: "copy", from: "/name", path: `/name/${index % 2}` }));
  expect(() => patch(...bomb)).toThrow(/Operation 1\d \(copy .*characters/);
});

test("two long lists are compared at once", () => {
  const long = Array.from({ length: 50_000 }, (_, index) => index);
  const operations = [
    { op: "add", path: "/photo", value: long },
    { op: "test", path: "/photo", value: long.toReversed() },
  ];
  const start = performance.now();
  expect(() => patch(...operations)).toThrow("Operation 1");
  expect(performance.now() - start).toBeLessThan(2_000);
});
