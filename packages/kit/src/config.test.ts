import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { z } from "zod";
import { clinicTimeZone, cursorKey, port, readEnvironment, serviceUrl } from "./config.ts";

test("every mistake is in one message, and no value is", () => {
  const load = () =>
    readEnvironment({ PORT: port(4000), CURSOR_KEY: cursorKey, BILLING_URL: serviceUrl }, { PORT: "many", CURSOR_KEY: "hunter2" });
  expect(load).toThrow(/PORT[\s\S]*CURSOR_KEY[\s\S]*BILLING_URL: is missing/);
  expect(load).not.toThrow(/hunter2/);
});

test("X_FILE gives X, without the line's end", () => {
  const file = join(mkdtempSync(join(tmpdir(), "config-")), "secret");
  writeFileSync(file, "from the file\n");
  expect(readEnvironment({ SECRET: z.string() }, { SECRET_FILE: file })).toEqual({ SECRET: "from the file" });
  expect(() => readEnvironment({ SECRET: z.string() }, { SECRET_FILE: `${file}.missing` })).toThrow(
    /SECRET_FILE: the file .* cannot be read/,
  );
});

test("an empty variable counts as missing, so defaults apply", () => {
  expect(readEnvironment({ PORT: port(4000) }, { PORT: "" })).toEqual({ PORT: 4000 });
});

test("the clinic's time zone is UTC unless another one is named, and a text that names none is refused", () => {
  const load = (value?: string) => readEnvironment({ CLINIC_TIME_ZONE: clinicTimeZone }, { CLINIC_TIME_ZONE: value }).CLINIC_TIME_ZONE;
  expect([undefined, "", "Europe/Berlin", "Asia/Kathmandu"].map(load)).toEqual(["UTC", "UTC", "Europe/Berlin", "Asia/Kathmandu"]);
  for (const wrong of ["+02:00", "Berlin", "Europe/Atlantis", "CET-1CEST"])
    expect(() => load(wrong), wrong).toThrow("CLINIC_TIME_ZONE: must be the name of an IANA time zone, such as Europe/Berlin");
});
