/**
 * The OpenAPI documents of a service. The published one is for callers from outside; the complete one also has the
 * operations that only services may call, each with `x-internal`.
 */
import { OpenAPIRegistry, OpenApiGeneratorV31 } from "@asteasolutions/zod-to-openapi";
import type { RouteConfig } from "@hono/zod-openapi";
import { type Access, isForServicesOnly } from "../auth/access.ts";
import { commonErrors, type DescribedErrors, errorComponentOf, otherErrorsOf } from "./schemas.ts";

type Answer = RouteConfig["responses"][string];

type Documents = {
  /**
   * Adds a route. If it says `x-internal`, it is for services only, whatever its access is.
   * @param streams whether its body may have any size
   */
  add(route: RouteConfig, access: Access, streams: boolean): void;
  published(): object;
  complete(): object;
};

type About = { title: string; description: string; errors: DescribedErrors };

export function createDocuments(info: About): Documents {
  const published = createDocument(info);
  const complete = createDocument(info);
  return {
    add(route, access, streams) {
      const isInternal = isForServicesOnly(access) || route["x-internal"] === true;
      complete.add(isInternal ? { ...route, "x-internal": true } : route, access, streams);
      if (!isInternal) published.add(route, access, streams);
    },
    published: published.generate,
    complete: complete.generate,
  };
}

function createDocument({ title, description, errors }: About) {
  const registry = new OpenAPIRegistry();
  const described = new Set<string>();
  let document: object | undefined;
  registry.registerComponent("securitySchemes", "bearer", { type: "http", scheme: "bearer", bearerFormat: "JWT" });
  registry.register(errors.name, errors.schema);
  registry.registerComponent("responses", "Other", otherErrorsOf(errors));

  /** Many operations have the same error answers. The document describes each once, among its components. */
  function reference(answer: Answer): Answer {
    const component = errorComponentOf(answer, errors);
    if (!component) return answer;
    const { name, response } = component;
    if (!described.has(name)) registry.registerComponent("responses", name, response);
    described.add(name);
    return { $ref: `#/components/responses/${name}` };
  }

  return {
    add(route: RouteConfig, access: Access, streams: boolean): void {
      const security = access === "public" ? [] : [{ bearer: access === "signed-in" ? [] : [access] }];
      const common = commonErrors(route.request, { access, streams });
      const responses = Object.entries({ ...common, ...route.responses }).map(([status, answer]) => [status, reference(answer)]);
      const other = { $ref: "#/components/responses/Other" };
      registry.registerPath({ ...route, security, responses: { ...Object.fromEntries(responses), default: other } });
    },
    generate(): object {
      document ??= new OpenApiGeneratorV31(registry.definitions).generateDocument({
        openapi: "3.1.0",
        info: { title, description, version: "1.0.0", license: { name: "Apache 2.0", identifier: "Apache-2.0" } },
        servers: [{ url: "/" }],
      });
      return document;
    },
  };
}
