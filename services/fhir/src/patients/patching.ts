/** JSON Patches of a resource (RFC 6902). */
import { z } from "@hono/zod-openapi";
import { AppError } from "@pm/kit/errors";
import type * as fhir from "fhir/r4.js";
import { applyPatch, type Operation, Pointer } from "rfc6902";
import { isEqual } from "./kept.ts";

export const PatchSchema = z
  .array(z.looseObject({ op: z.enum(["add", "remove", "replace", "move", "copy", "test"]), path: z.string() }))
  .max(1_000)
  .openapi("JsonPatch", {
    description: "RFC 6902, on the resource as it is read.",
    example: [{ op: "replace", path: "/gender", value: "other" }],
  });

/** Most characters that the copies of a patch may have in all: each of them could double the resource. */
const maxCopied = 100_000;

/** @throws AppError unprocessable if an operation does not fit the resource, or changes whose it is */
export function patched(resource: fhir.Patient, operations: Operation[]): fhir.Patient {
  const copy = structuredClone(resource);
  let copied = 0;
  for (const [index, operation] of operations.entries()) {
    const refuse = (why: string) => {
      const message = `Operation ${index} (${operation.op} ${operation.path}) ${why}. Nothing was changed.`;
      return new AppError("unprocessable", message);
    };
    copied += sizeOfCopy(copy, operation);
    if (copied > maxCopied) throw refuse(`copies more than the ${maxCopied} characters that a patch may copy in all`);
    if (!isApplied(copy, operation)) throw refuse("does not fit the patient as they are");
  }
  if (copy.id !== resource.id || copy.resourceType !== "Patient")
    throw new AppError("unprocessable", "A patch must not change the id or the type of a resource.");
  return copy;
}

function sizeOfCopy(resource: fhir.Patient, operation: Operation): number {
  if (operation.op !== "copy" || !isInside(resource, operation.from)) return 0;
  return JSON.stringify(Pointer.fromJSON(operation.from).get(resource) ?? null).length;
}

/** Changes the resource, unless the operation does not fit it. */
function isApplied(resource: fhir.Patient, operation: Operation): boolean {
  if (!isInside(resource, operation.path) || ("from" in operation && !isInside(resource, operation.from))) return false;
  // The library compares two lists in the square of their length.
  if (operation.op === "test")
    return Object.hasOwn(operation, "value") && isEqual(Pointer.fromJSON(operation.path).get(resource), operation.value);
  return applyPatch(resource, [operation])[0] === null;
}

/**
 * Whether each step of a path is one of the resource itself. What it inherits belongs to every object of the process.
 */
function isInside(resource: fhir.Patient, path: unknown): boolean {
  if (typeof path !== "string" || (path !== "" && !path.startsWith("/"))) return false;
  let place: unknown = resource;
  for (const step of Pointer.fromJSON(path).tokens.slice(1)) {
    if (typeof place !== "object" || place === null) return false;
    const isStep = Array.isArray(place) ? /^(-|0|[1-9]\d*)$/.test(step) : Object.hasOwn(place, step) || !(step in place);
    if (!isStep) return false;
    place = (place as Record<string, unknown>)[step];
  }
  return true;
}
