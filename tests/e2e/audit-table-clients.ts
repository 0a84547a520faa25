/** Which audit entry every operation of API clients leaves: a part of audit-table.ts. */
import { randomUUID } from "node:crypto";
import type { operations } from "@pm/kit/auth/access";
import type { AuditRow } from "./audit-table-billing.ts";
import { done, post } from "./scene.ts";

const noPerson = "has no data of a person";

/** A new API client with a secret. */
const newClient = (): Promise<{ id: string; secret: string }> =>
  done(post("/auth/clients", { name: `Program ${randomUUID()}`, scopes: ["patient:read"] }));

export const auditTableOfClients = {
  "auth.issueToken": {
    leaves: "authn_token_created",
    by: async () => {
      const { id, secret } = await newClient();
      const body = new URLSearchParams({ grant_type: "client_credentials", client_id: id, client_secret: secret });
      return { ...post("/auth/token", body.toString()), headers: { "content-type": "application/x-www-form-urlencoded" } };
    },
  },
  "auth.listApiClients": { none: noPerson },
  "auth.createApiClient": {
    leaves: "authz_client_created",
    by: () => post("/auth/clients", { name: `Program ${randomUUID()}`, scopes: ["patient:read"] }),
  },
  "auth.getApiClient": { none: noPerson },
  "auth.updateApiClient": {
    leaves: "authz_client_updated",
    by: async () => ({ method: "PATCH", path: `/auth/clients/${(await newClient()).id}`, body: { scopes: ["billing:read"] } }),
  },
  "auth.rotateApiClientSecret": {
    leaves: "authn_client_secret_change",
    by: async () => post(`/auth/clients/${(await newClient()).id}:rotateSecret`),
  },
  "auth.disableApiClient": {
    leaves: "authz_client_disabled",
    by: async () => post(`/auth/clients/${(await newClient()).id}:disable`),
  },
  "auth.enableApiClient": {
    leaves: "authz_client_enabled",
    by: async () => {
      const { id } = await newClient();
      await done(post(`/auth/clients/${id}:disable`));
      return post(`/auth/clients/${id}:enable`);
    },
  },
  "auth.deleteApiClient": {
    leaves: "authz_client_deleted",
    by: async () => ({ method: "DELETE", path: `/auth/clients/${(await newClient()).id}` }),
  },
} satisfies Partial<Record<keyof typeof operations, AuditRow>>;
