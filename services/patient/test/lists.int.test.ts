/** Lists, search, and who sees what, over a real Postgres. */
import { randomUUID } from "node:crypto";
import * as fc from "fast-check";
import { beforeAll, expect, test } from "vitest";
import { type Client, patientsOfThisFile, someBody } from "./testing.ts";

const { service, admin } = await patientsOfThisFile();
const people = [
  {
    name: "Zoë Ångström",
    dateOfBirth: "1950-01-01",
    registeredDate: "2020-01-01",
    phoneNumber: "+14155550101",
    address: { city: "Uppsala" },
  },
  { name: "adam Smith", dateOfBirth: "1980-05-05", registeredDate: "2021-06-01", address: { city: "Springfield", state: "IL" } },
  { name: "Åsa O'Neill", dateOfBirth: "1980-05-05", registeredDate: "2021-06-01", address: { city: "springfield", state: "MA" } },
  { name: "王小明", dateOfBirth: "2001-12-31", registeredDate: "2022-01-01", address: "北京" },
  { name: "Catherine Smithers", dateOfBirth: "1999-09-09", registeredDate: "2023-03-03", address: { city: "Boston", state: "MA" } },
];
const ids: string[] = [];

beforeAll(async () => {
  for (const person of people) ids.push((await admin.send("POST", "/patients", someBody(person))).body.id);
});

type Item = { id: string; name: string };
const names = async (query: string, who = admin) => {
  const { status, body } = await who.send("GET", `/patients?${query}`);
  expect(status).toBe(200);
  return body.items.map((item: Item) => item.name);
};

test("lists are ordered by name, creation, birth and registration, both ways", async () => {
  const created = people.map((person) => person.name);
  expect(await names("")).toEqual(created);
  expect(await names("sort=-createdAt")).toEqual(created.toReversed());
  expect(await names("sort=name")).toEqual(["Zoë Ångström", "Åsa O'Neill", "adam Smith", "Catherine Smithers", "王小明"]);
  expect((await names("sort=dateOfBirth"))[0]).toBe("Zoë Ångström");
  expect((await names("sort=-registeredDate"))[0]).toBe("Catherine Smithers");
});

test("pages of any size give every patient once, in every order, also while others come", async () => {
  for (const sort of ["createdAt", "-createdAt", "name", "-name", "dateOfBirth", "-registeredDate"]) {
    const whole = await names(`sort=${sort}`);
    const paged: string[] = [];
    let cursor = "";
    do {
      const { body } = await admin.send("GET", `/patients?limit=2&sort=${sort}${cursor}`);
      paged.push(...body.items.map((item: Item) => item.name));
      cursor = body.nextCursor ? `&cursor=${body.nextCursor}` : "";
    } while (cursor !== "");
    expect(paged).toEqual(whole);
  }
});

test("a cursor is bound to its query and to who asked", async () => {
  const { body } = await admin.send("GET", "/patients?limit=2&sort=name");
  for (const [who, query] of [
    [admin, "sort=-name"],
    [admin, "sort=name&city=Boston"],
    [service.as("admin"), "sort=name"],
  ] as const) {
    const answer = await who.send("GET", `/patients?limit=2&${query}&cursor=${body.nextCursor}`);
    expect([answer.status, answer.body.errors[0].path]).toEqual([400, "cursor"]);
  }
});

test("filters narrow a list, and wrong ones are named", async () => {
  expect(await names("dateOfBirth=1980-05-05")).toEqual(["adam Smith", "Åsa O'Neill"]);
  expect(await names("city=SPRINGFIELD&state=ma")).toEqual(["Åsa O'Neill"]);
  expect(await names("registeredAfter=2021-06-01&registeredBefore=2023-03-03")).toEqual(["王小明"]);
  const { status, body } = await admin.send("GET", "/patients?limit=0&sort=age&dateOfBirth=1980-02-30&q=%00&deleted=maybe&qq=1&cursor=");
  expect(status).toBe(400);
  expect(body.errors.map((error: { path: string }) => error.path).sort()).toEqual([
    "cursor",
    "dateOfBirth",
    "deleted",
    "limit",
    "q",
    "qq",
    "sort",
  ]);
});

test("q finds by the beginning of words, with typing errors, by e-mail, phone number and id", async () => {
  expect(await names("q=smith&sort=name")).toEqual(["adam Smith", "Catherine Smithers"]);
  expect(await names("q=cathrine")).toEqual(["Catherine Smithers"]);
  expect(await names("q=angstrom")).toEqual(["Zoë Ångström"]);
  expect(await names(`q=${encodeURIComponent("ångst")}`)).toEqual(["Zoë Ångström"]);
  expect(await names(`q=${encodeURIComponent("小明")}`)).toEqual(["王小明"]);
  expect(await names("q=smith%20adam")).toEqual(["adam Smith"]);
  expect(await names("q=smih%20adam")).toEqual(["adam Smith"]);
  expect(await names(`q=${encodeURIComponent("o'nei")}`)).toEqual(["Åsa O'Neill"]);
  expect(await names(`q=${encodeURIComponent("(415) 555-0101")}`)).toEqual(["Zoë Ångström"]);
  expect(await names(`q=${ids[3]}`)).toEqual(["王小明"]);
  for (const wild of ["%", "_", "\\", "zq%"]) expect(await names(`q=${encodeURIComponent(wild)}`)).toEqual([]);
});

test("the total is exact where all is on one page, and an estimate otherwise", async () => {
  expect((await admin.send("GET", "/patients")).body.totalEstimate).toBe(people.length);
  const { body } = await admin.send("GET", "/patients?limit=2");
  expect(body.totalEstimate).toBeGreaterThanOrEqual(3);
  expect((await admin.send("GET", `/patients?limit=2&cursor=${body.nextCursor}`)).body).not.toHaveProperty("totalEstimate");
});

test("who was shown on a list is in the audit trail", async () => {
  const reader = service.as("admin");
  await reader.send("GET", "/patients?q=catherine");
  const { rows } = await service.db.pool.query("select action, details from audit_entries where actor = $1", [reader.caller.id]);
  expect(rows).toEqual([{ action: "patient.listed", details: { ids: [ids[4]] } }]);
});

test("deleted patients are on the list of deleted ones, and on no other", async () => {
  const owner = service.as("user");
  const { body } = await owner.send("POST", "/patients", someBody({ name: "Gone" }));
  await owner.send("DELETE", `/patients/${body.id}`);
  expect(await names("", owner)).toEqual([]);
  expect(await names("deleted=true", owner)).toEqual(["Gone"]);
  expect(await names("deleted=true", service.as("user"))).toEqual([]);
});

test("lists, search, reads, history and exports show what a caller registered or was given, whatever the grants", async () => {
  const users = Array.from({ length: 3 }, (_, index) => service.as("user", { teams: [`team-${index}`, "all"] }));
  const mark = randomUUID().slice(0, 8);
  let round = 0;
  const grant = fc.record({
    registrar: fc.nat(2),
    users: fc.subarray([0, 1, 2]),
    teams: fc.subarray([0, 1, 2]),
    readers: fc.subarray([0, 1, 2]),
    everybody: fc.boolean(),
    deleted: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(grant, { minLength: 1, maxLength: 6 }), async (grants) => {
      const name = `Grantee ${mark} ${round++}`;
      const expected = users.map(() => new Set<string>());
      const created: string[] = [];
      for (const { registrar, users: given, teams, readers, everybody, deleted } of grants) {
        const owner = users[registrar] as Client;
        const { id } = (await owner.send("POST", "/patients", someBody({ name }))).body;
        created.push(id);
        const body = {
          users: given.map((index) => users[index]?.caller.id),
          teams: teams.map((index) => `team-${index}`),
          readers: { users: readers.map((index) => users[index]?.caller.id), teams: everybody ? ["all"] : [] },
        };
        expect((await owner.send("PUT", `/patients/${id}/access`, body)).status).toBe(200);
        if (deleted) await owner.send("DELETE", `/patients/${id}`);
        users.forEach((_, index) => {
          if (!deleted && (index === registrar || everybody || [...given, ...teams, ...readers].includes(index))) expected[index]?.add(id);
        });
      }
      for (const [index, user] of users.entries()) {
        const wanted = created.filter((id) => expected[index]?.has(id));
        const mine = (items: Item[]) => items.filter((item) => item.name === name).map((item) => item.id);
        expect(mine((await user.send("GET", "/patients?limit=200&sort=-createdAt")).body.items).reverse()).toEqual(wanted);
        expect(mine((await user.send("GET", `/patients?limit=200&q=${encodeURIComponent(name)}`)).body.items)).toEqual(wanted);
        const lines = (await user.send("GET", "/patients:export")).text.split("\n").filter(Boolean);
        expect(mine(lines.map((line) => JSON.parse(line)))).toEqual(wanted);
        for (const id of created) {
          const status = wanted.includes(id) ? 200 : 404;
          expect((await user.send("GET", `/patients/${id}`)).status).toBe(status);
          if (status === 200) expect((await user.send("GET", `/patients/${id}/history`)).status).toBe(200);
        }
      }
    }),
    { numRuns: 15 },
  );
});
