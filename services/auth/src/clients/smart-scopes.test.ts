import { expect, test } from "vitest";
import { ownScopes } from "./smart-scopes.ts";

test.each([
  ["system/Patient.read", ["patient:read", "patient:all"]],
  ["system/Patient.rs", ["patient:read", "patient:all"]],
  ["system/Patient.write", ["patient:write", "patient:all"]],
  ["system/Patient.cud", ["patient:write", "patient:all"]],
  ["system/Patient.cruds", ["patient:read", "patient:all", "patient:write"]],
  ["system/Account.read", ["billing:read", "patient:all"]],
  ["system/AuditEvent.*", ["audit:read"]],
  ["system/RelatedPerson.rs", ["patient:read", "patient:all"]],
  ["system/Group.read", ["patient:read"]],
  ["system/Practitioner.read", []],
  ["system/Condition.read", []],
  ["system/*.read", ["patient:read", "patient:all", "billing:read", "audit:read"]],
  ["system/*.write", ["patient:write", "patient:all"]],
])("SMART's %s asks for %j", (scope, own) => {
  expect(ownScopes(scope)).toEqual(own);
});

test.each(["Account", "ChargeItem", "Group", "Practitioner", "Provenance", "RelatedPerson", "AuditEvent"])(
  "nobody writes %s by FHIR, so the right to write it means nothing",
  (type) => {
    for (const right of ["write", "cud", "u"]) expect(ownScopes(`system/${type}.${right}`)).toEqual([]);
  },
);

test.each(["patient:read", "system/Patient", "system/Patient.", "system/Patient.sr", "user/Patient.read", "system/patient.read"])(
  "%s is no scope of SMART for programs",
  (scope) => {
    expect(ownScopes(scope)).toBeUndefined();
  },
);
