/** What every operation of every service documents, and that each example is one that its own schema accepts. */
import { Ajv2020 } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import { describe, expect, test } from "vitest";
import { type Described, exampleOf, examplesIn, operationsOf, services } from "./documents.ts";

describe.each(services)("$service", ({ document }) => {
  const operations = operationsOf(document);
  const ajv = new Ajv2020({ allErrors: true, strictTypes: false, keywords: ["example", "discriminator", "components"] });
  addFormats.default(ajv);
  // The only standard format that ajv-formats lacks.
  ajv.addFormat("idn-email", /^[^@\s]+@[^@\s]+$/);

  /** Why a schema refuses a value; undefined if it accepts it. */
  function refusal(schema: object, value: unknown): string | undefined {
    const validate = ajv.compile({ ...schema, components: document.components });
    return validate(value) ? undefined : ajv.errorsText(validate.errors, { dataVar: "example" });
  }

  test("every example is one that its own schema accepts", () => {
    const examples = examplesIn(document);
    expect(examples).not.toEqual([]);
    const refused = examples.map(({ at, schema, value }) => ({ at, problem: refusal(schema, value) }));
    expect(refused.filter(({ problem }) => problem)).toEqual([]);
  });

  test("every operation has an id of its own, a summary and a tag", () => {
    const ids = operations.map(({ operationId }) => operationId);
    expect(new Set(ids).size).toBe(ids.length);
    expect(operations.filter(({ operationId, summary, tags }) => !operationId || !summary || !tags?.length).map(nameOf)).toEqual([]);
  });

  test("every operation has an example of its body, its JSON answers and the parameters that it needs, which their schemas accept", () => {
    const wrong = operations.flatMap((operation) => {
      const check = (what: string, described: Described) => {
        const example = exampleOf(document, described);
        const problem = example === undefined ? "has no example" : described.schema && refusal(described.schema, example);
        return problem === undefined ? [] : [`${nameOf(operation)}: ${what} ${problem}`];
      };
      const { parameters, requestBody, responses } = operation;
      const answers = Object.entries(responses).filter(([status]) => status.startsWith("2"));
      return [
        ...parameters.filter(({ required }) => required).flatMap((parameter) => check(parameter.name, parameter)),
        ...Object.entries(requestBody?.content ?? {}).flatMap(([type, body]) => check(`the body as ${type}`, body)),
        ...answers.flatMap(([status, { content }]) => jsonOf(content).flatMap((answer) => check(`the answer ${status}`, answer))),
      ];
    });
    expect(wrong).toEqual([]);
  });

  test("every operation documents the errors that it gives, each with an example of its status", () => {
    const wrong = operations.flatMap((operation) => {
      const { parameters, requestBody, security = [], responses } = operation;
      const errors = Object.entries(responses).filter(([status]) => /^[45]\d\d$/.test(status));
      const isDocumented = (status: RegExp) => errors.some(([documented]) => status.test(documented));
      const problems: string[] = [];
      if ((requestBody || parameters.length > 0) && !isDocumented(/^4(?!01|03)/)) problems.push("no answer to wrong input is documented");
      if (security.length > 0 && !isDocumented(/401/)) problems.push("401 is not documented");
      if (security.some((scheme) => Object.values(scheme).flat().length > 0) && !isDocumented(/403/))
        problems.push("403 is not documented");
      for (const [status, { content }] of errors)
        for (const answer of jsonOf(content)) {
          const examples = answer.examples ? Object.values(answer.examples).map(({ value }) => value) : [exampleOf(document, answer)];
          if (examples.includes(undefined)) problems.push(`${status} has no example`);
          const statuses = examples.map((example) => (example as { status?: number } | undefined)?.status ?? Number(status));
          if (statuses.some((given) => given !== Number(status))) problems.push(`${status} has an example of another status`);
        }
      return problems.map((problem) => `${nameOf(operation)}: ${problem}`);
    });
    expect(wrong).toEqual([]);
  });
});

function jsonOf(content: Record<string, Described> = {}): Described[] {
  return Object.entries(content).flatMap(([type, described]) => (/^application\/(.+\+)?json$/.test(type) ? [described] : []));
}

function nameOf({ method, path }: { method: string; path: string }): string {
  return `${method.toUpperCase()} ${path}`;
}
