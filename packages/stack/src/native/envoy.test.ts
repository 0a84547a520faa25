import { expect, test } from "vitest";
import { fillIn } from "./envoy.ts";

test("every placeholder gets its value, wherever it stands", () => {
  expect(fillIn(`a: \${ONE}\nb: '\${TWO}:\${ONE}'`, { ONE: "1", TWO: "2" }, "t.yaml")).toBe("a: 1\nb: '2:1'");
});

test("Envoy's own %OPERATORS% are left alone", () => {
  expect(fillIn("%REQ(X)% $x {y}", {}, "t.yaml")).toBe("%REQ(X)% $x {y}");
});

test("all names that are missing or not used are named at once", () => {
  expect(() => fillIn(`\${A} \${B}`, { C: "3", D: "4" }, "t.yaml")).toThrow("t.yaml: no value for A, B; nothing in it takes C, D");
});
