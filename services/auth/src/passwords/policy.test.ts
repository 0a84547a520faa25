import { AppError } from "@pm/kit/errors";
import { expect, test } from "vitest";
import { checkNewPassword } from "./policy.ts";

const about = ["anna.schmidt@praxis.example", "Anna Schmidt"];
const refusal = (password: string) => {
  try {
    checkNewPassword(password, about);
    return undefined;
  } catch (error) {
    if (error instanceof AppError) return error.message;
    throw error;
  }
};

test.each([
  "seven77",
  "password1",
  "QWERTYUIOP",
  "iloveyou1",
  "annaschmidt",
  "Schmidt1",
  "schmidtschmidt",
  "PraxisAnna12",
  "patientmanagement",
  "Hospital2026".slice(0, 11),
  "x".repeat(129),
])("%s is refused", (password) => {
  expect(refusal(password)).toMatch(/^password: /);
});

test.each([
  "correct horse battery",
  "zvqkmwpf",
  "ein Satz über Anna Schmidt und ihr Fahrrad",
  "日本語のパスワードです",
  "    four    ",
  "x!".repeat(64),
])("%s is taken: any characters, no rule of composition", (password) => {
  expect(refusal(password)).toBeUndefined();
});

test("the answer does not repeat the password", () => {
  expect(refusal("patientmanagement")).not.toContain("patientmanagement");
});
