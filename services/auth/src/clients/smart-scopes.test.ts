import { expect, test } from "vitest";
import { ownScopes } from "./smart-scopes.ts";

test.each([
  ["system/Patient.read", ["patient:read", "patient:all"]],
  ["system/Patient.rs", ["patient:read", "patient:all"]],
  ["system/Patient.write", ["patient:write", "patient:all"]],
  ["system/Patient.cud", ["patient:write", "patient:all"]],
  ["system/Patient.cruds", ["patient:read", "patient:write", "patient:all"]],
  ["system/Account.read", ["billing:read", "patient:all"]],
  ["system/AuditEvent.*", ["audit:read", "audit:write"]],
  ["system/Condition.read", []],
  ["system/*.read", ["patient:read", "patient:all", "billing:read", "patient:all", "audit:read"]],
])("SMART's %s asks for %j", (scope, own) => {
  expect(ownScopes(scope)).toEqual(own);
});

test.each(["patient:read", "system/Patient", "system/Patient.", "system/Patient.sr", "user/Patient.read", "system/patient.read"])(
  "%s is no scope of SMART for programs",
  (scope) => {
    expect(ownScopes(scope)).toBeUndefined();
  },
);
