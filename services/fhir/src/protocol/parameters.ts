/** The input of operations (http://hl7.org/fhir/R4/parameters.html). */
import { AppError, type FieldError, invalidFields } from "@pm/kit/errors";

/** By its name, where the value of a parameter stands. */
export type Kinds = Record<string, "resource" | "valueBoolean" | "valueInteger" | "valueInstant" | "valueCode">;
/** A parameter as it was sent, with the FHIRPath of its value. */
export type Given = { name: string; value: unknown; path: string };

const isRight: Record<Kinds[string], (value: unknown) => boolean> = {
  resource: (value) => typeof value === "object" && value !== null && !Array.isArray(value),
  valueBoolean: (value) => typeof value === "boolean",
  valueInteger: Number.isSafeInteger,
  valueInstant: (value) => typeof value === "string",
  valueCode: (value) => typeof value === "string",
};

/** @throws AppError invalid_argument that names every element which is not known, missing or of another type */
export function readParameters(body: object, kinds: Kinds): Given[] {
  const { parameter = [] } = body as { parameter?: unknown };
  if (!Array.isArray(parameter)) throw invalidFields([{ path: "Parameters.parameter", message: "must be a list" }]);
  const wrong: FieldError[] = [];
  const given = parameter.map((one: Record<string, unknown> | null, index): Given => {
    const at = `Parameters.parameter[${index}]`;
    const name = String(one?.name);
    const kind = Object.hasOwn(kinds, name) ? kinds[name] : undefined;
    const path = `${at}.${kind === "resource" ? "resource" : "value"}`;
    if (!kind) wrong.push({ path: `${at}.name`, message: `must be one of ${Object.keys(kinds).join(", ")}` });
    else if (!isRight[kind](one?.[kind])) wrong.push({ path, message: `is required, as ${kind}` });
    return { name, value: kind && one?.[kind], path };
  });
  if (wrong.length > 0) throw invalidFields(wrong);
  return given;
}

/** The one parameter with a name. @throws AppError invalid_argument for several */
export function oneOf(given: Given[], name: string): Given | undefined {
  const [first, second] = given.filter((one) => one.name === name);
  if (second) throw invalidFields([{ path: second.path, message: `is a second ${name}; send one` }]);
  return first;
}

/** Errors that name elements of a resource, which is a parameter: by where it stands there. */
export function inParameter(error: unknown, type: string, path: string): unknown {
  if (!(error instanceof AppError) || !error.options.errors) return error;
  const errors = error.options.errors.map((one) => ({ ...one, path: one.path.replace(new RegExp(`^${type}\\b`), path) }));
  return new AppError(error.code, errors.map((one) => `${one.path}: ${one.message}`).join("; "), { ...error.options, errors });
}
