/** API clients over HTTP, for administrators. */
import { createRoute, z } from "@hono/zod-openapi";
import type { RestApp } from "@pm/kit/http/rest";
import { errorAnswers, jsonAnswer, jsonBody } from "@pm/kit/http/schemas";
import type { JSONWebKeySet } from "jose";
import type { ContextOf } from "../client-address.ts";
import { idParams, listQuery, noContent, noStore, pageOf } from "../http/schemas.ts";
import type { Clients } from "./clients.ts";
import { Client, ClientUpdate, ClientWithSecret, exampleClient, NewClient, toClient } from "./schemas.ts";

const tags = ["API clients"];

const listApiClientsRoute = createRoute({
  operationId: "listApiClients",
  tags,
  method: "get",
  path: "/auth/clients",
  summary: "List API clients, in the order in which they were registered",
  request: { query: z.object(listQuery) },
  responses: { 200: jsonAnswer(pageOf(Client, exampleClient), "A page of API clients") },
});

const createApiClientRoute = createRoute({
  operationId: "createApiClient",
  tags,
  method: "post",
  path: "/auth/clients",
  summary: "Register an API client, a program that acts without a person",
  description: "It gets access tokens from `POST /auth/token`, by its secret or by assertions that it signs.",
  request: { body: jsonBody(NewClient) },
  responses: { 201: jsonAnswer(ClientWithSecret, "The API client, with its secret if it has no keys"), ...errorAnswers("already_exists") },
});

const getApiClientRoute = createRoute({
  operationId: "getApiClient",
  tags,
  method: "get",
  path: "/auth/clients/{id}",
  summary: "Read an API client",
  request: { params: idParams },
  responses: { 200: jsonAnswer(Client, "The API client"), ...errorAnswers("not_found") },
});

const updateApiClientRoute = createRoute({
  operationId: "updateApiClient",
  tags,
  method: "patch",
  path: "/auth/clients/{id}",
  summary: "Change the name, the scopes, the team or the keys of an API client",
  description: "All but a new name make its tokens void in all services. To change keys without a gap, send the old and the new one first.",
  request: { params: idParams, body: jsonBody(ClientUpdate) },
  responses: { 200: jsonAnswer(Client, "The API client"), ...errorAnswers("not_found", "already_exists") },
});

const rotateApiClientSecretRoute = createRoute({
  operationId: "rotateApiClientSecret",
  tags,
  method: "post",
  path: "/auth/clients/{id}:rotateSecret",
  summary: "Give an API client a new secret",
  description: "The former secret and the client's tokens are void at once.",
  request: { params: idParams },
  responses: {
    200: jsonAnswer(ClientWithSecret, "The API client with its new secret"),
    ...errorAnswers("not_found", "failed_precondition"),
  },
});

const disableApiClientRoute = createRoute({
  operationId: "disableApiClient",
  tags,
  method: "post",
  path: "/auth/clients/{id}:disable",
  summary: "Disable an API client, whose tokens are void in all services at once",
  request: { params: idParams },
  responses: { 200: jsonAnswer(Client, "The API client"), ...errorAnswers("not_found") },
});

const enableApiClientRoute = createRoute({
  operationId: "enableApiClient",
  tags,
  method: "post",
  path: "/auth/clients/{id}:enable",
  summary: "Let a disabled API client get tokens again",
  request: { params: idParams },
  responses: { 200: jsonAnswer(Client, "The API client"), ...errorAnswers("not_found") },
});

const deleteApiClientRoute = createRoute({
  operationId: "deleteApiClient",
  tags,
  method: "delete",
  path: "/auth/clients/{id}",
  summary: "Delete an API client, whose tokens are void in all services at once",
  request: { params: idParams },
  responses: { ...noContent("The API client is deleted."), ...errorAnswers("not_found") },
});

export function registerClients({ operation }: RestApp, { clients, contextOf }: { clients: Clients; contextOf: ContextOf }): void {
  operation(listApiClientsRoute, async (c) => {
    const { items, ...next } = await clients.list(c.req.valid("query"));
    return c.json({ items: items.map(toClient), ...next }, 200, noStore);
  });
  operation(createApiClientRoute, async (c) => {
    const { jwks, ...rest } = c.req.valid("json");
    const { client, ...secret } = await clients.create({ ...rest, jwks: jwks as JSONWebKeySet | undefined }, contextOf(c));
    return c.json({ ...toClient(client), ...secret }, 201, { ...noStore, location: `/auth/clients/${client.id}` });
  });
  operation(getApiClientRoute, async (c) => c.json(toClient(await clients.get(c.req.valid("param").id)), 200, noStore));
  operation(updateApiClientRoute, async (c) => {
    const { jwks, ...rest } = c.req.valid("json");
    const update = { ...rest, jwks: jwks as JSONWebKeySet | undefined };
    return c.json(toClient(await clients.update(c.req.valid("param").id, update, contextOf(c))), 200, noStore);
  });
  operation(rotateApiClientSecretRoute, async (c) => {
    const { client, ...secret } = await clients.rotateSecret(c.req.valid("param").id, contextOf(c));
    return c.json({ ...toClient(client), ...secret }, 200, noStore);
  });
  operation(disableApiClientRoute, async (c) =>
    c.json(toClient(await clients.disable(c.req.valid("param").id, contextOf(c))), 200, noStore),
  );
  operation(enableApiClientRoute, async (c) => c.json(toClient(await clients.enable(c.req.valid("param").id, contextOf(c))), 200, noStore));
  operation(deleteApiClientRoute, async (c) => {
    await clients.remove(c.req.valid("param").id, contextOf(c));
    return c.body(null, 204);
  });
}
