import { Hono } from "hono";
import { expect, test } from "vitest";
import { preferredType } from "./accept.ts";

const app = new Hono();
app.get("/", (c) => c.text(preferredType(c, ["text/html", "application/pdf", "application/json"]) ?? "none"));

test.each([
  [undefined, "text/html"],
  ["application/json", "application/json"],
  ["application/json;q=0.5, application/pdf", "application/pdf"],
  ["APPLICATION/PDF", "application/pdf"],
  ["application/*", "application/pdf"],
  ["text/*", "text/html"],
  ["*/*", "text/html"],
  ["image/png, */*;q=0.1", "text/html"],
  // From JavaScript clients, which name what they prefer and give it no higher quality.
  ["application/json, text/plain, */*", "application/json"],
  ["application/json;q=0.5, */*", "text/html"],
  ["image/png", "none"],
  ["application/pdf;q=0", "none"],
  ["*/*;q=0", "none"],
])("Accept: %s gives %s", async (accept, expected) => {
  const response = await app.request("/", { headers: accept === undefined ? {} : { accept } });
  expect(await response.text()).toBe(expected);
});
