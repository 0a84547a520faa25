/** Which patients a search shows, and in which order, over a real Postgres. */
import { beforeAll, expect, test } from "vitest";
import { patientsOfThisFile, someBody } from "./testing.ts";

const { admin } = await patientsOfThisFile();

const people = [
  { name: "Leeds Hansen", dateOfBirth: "1960-01-01" },
  { name: "Lee Hansen", dateOfBirth: "1961-01-01" },
  { name: "Jürgen Müller", dateOfBirth: "1970-05-05" },
  { name: "Petra Mueller", dateOfBirth: "1971-05-05" },
  { name: "Grace Hopper", dateOfBirth: "1976-12-09" },
  { name: "Grace B. Hopper", dateOfBirth: "1986-12-09" },
  { name: "Dr. Gracie Hopper", dateOfBirth: "1996-09-12" },
  { name: "राम कुमार" },
  { name: "रीमा कुमार" },
  { name: "かが みき" },
  { name: "Οδυσσεύς Παπαδόπουλος" },
];

beforeAll(async () => {
  for (const person of people) await admin.send("POST", "/patients", someBody(person));
});

const search = async (q: string, more = "") => {
  const { status, body } = await admin.send("GET", `/patients?q=${encodeURIComponent(q)}${more}`);
  expect(status).toBe(200);
  return body.items.map((item: { name: string }) => item.name);
};

test("whole words come before words that begin so, and these before words that are like them", async () => {
  expect((await search("lee hansen")).slice(0, 2)).toEqual(["Lee Hansen", "Leeds Hansen"]);
  expect(await search("mueller")).toEqual(["Petra Mueller", "Jürgen Müller"]);
  expect((await search("müller"))[0]).toBe("Jürgen Müller");
  expect(await search("mueller", "&sort=name")).toEqual(["Petra Mueller", "Jürgen Müller"]);
});

test("pages of one go through all tiers, each patient once", async () => {
  const found: string[] = [];
  for (let cursor = ""; ; ) {
    const { body } = await admin.send("GET", `/patients?q=grace&limit=1${cursor}`);
    found.push(body.items[0].name);
    if (!body.nextCursor) break;
    cursor = `&cursor=${body.nextCursor}`;
  }
  expect(found).toEqual(["Grace Hopper", "Grace B. Hopper", "Dr. Gracie Hopper"]);
  const { body } = await admin.send("GET", "/patients?q=grace&limit=1&count=exact");
  expect(body.total).toBe(3);
});

test("titles and initials do no harm", async () => {
  expect(await search("Mrs Hopper")).toEqual(expect.arrayContaining(["Grace Hopper", "Grace B. Hopper", "Dr. Gracie Hopper"]));
  expect((await search("Grace B. Hopper")).slice(0, 2)).toEqual(["Grace B. Hopper", "Grace Hopper"]);
  expect((await search("dr gracie hopper"))[0]).toBe("Dr. Gracie Hopper");
});

test("a date of birth narrows", async () => {
  expect(await search("hopper 1976")).toEqual(["Grace Hopper"]);
  expect(await search("1976-12-09")).toEqual(["Grace Hopper"]);
  expect(await search("hopper 9.12.1986")).toEqual(["Grace B. Hopper"]);
  expect(await search("12/09/1996 hopper")).toEqual(["Dr. Gracie Hopper"]);
  expect(await search("grace 1996-09")).toEqual(["Dr. Gracie Hopper"]);
  expect(await search("hopper 1950")).toEqual([]);
});

test("marks that are letters are not left out", async () => {
  expect(await search("राम")).toEqual(["राम कुमार"]);
  expect(await search("रीमा")).toEqual(["रीमा कुमार"]);
  expect(await search("が")).toEqual(["かが みき"]);
  expect(await search("ΟΔΥΣΣΕΥΣ")).toEqual(["Οδυσσεύς Παπαδόπουλος"]);
  expect(await search("οδυσσευς παπ")).toEqual(["Οδυσσεύς Παπαδόπουλος"]);
});

test("a phone number is found however it is written, and by its last digits", async () => {
  const body = someBody({ name: "Ring Me", phoneNumber: "(212) 867-5309 ext. 12" });
  expect((await admin.send("POST", "/patients", body)).body.phoneNumber).toBe("+12128675309;ext=12");
  for (const q of ["212-867-5309", "+1 212 867 5309", "5309", "867-5309", "+12128675309;ext=12", "212 867"])
    expect([q, await search(q)]).toEqual([q, ["Ring Me"]]);
  expect(await search("8675308")).toEqual([]);
});
