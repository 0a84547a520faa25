import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { readSettings } from "./settings.ts";

const example = `${import.meta.dirname}/../settings.example.json`;

/** Reads the example with some fields changed. */
function read(changes: object) {
  const folder = mkdtempSync(join(tmpdir(), "pm-settings-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "settings.json");
  writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(example, "utf8")), ...changes }));
  return readSettings(file);
}

test("the example has settings that fit", () => {
  expect(readSettings(example).profile).toBe("clinic");
});

test.each([
  ["zones of another region", { zones: ["eu-west-1a", "eu-west-1b", "eu-west-1c"] }, "zones: are not of the region"],
  ["two zones", { zones: ["eu-central-1a", "eu-central-1b"] }, "zones:"],
  ["a profile that does not exist", { profile: "huge" }, "profile:"],
  ["a host of another domain", { host: "patients.example.net" }, "host: is not in the domain"],
  ["a network that is too small", { cidr: "10.0.0.0/24" }, "cidr: is a network of /16 to /19"],
  ["a name that no bucket may have", { name: "Patients" }, "name: is 2 to 21 lower-case letters"],
  ["a field that it does not know", { regoin: "eu-central-1" }, "regoin"],
])("%s is refused, and the field is named", (_, changes, message) => {
  expect(() => read(changes)).toThrow(message);
});

test("every wrong field is named at once", () => {
  expect(() => read({ account: "1", region: "Frankfurt" })).toThrow(/account: .*\n.*region: /);
});
