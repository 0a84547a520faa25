/** API clients: programs that an administrator lets act without a person. */
import { createHash, randomBytes } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import { type ClientScope, clientSubject } from "@pm/kit/auth/access";
import type { Cursors } from "@pm/kit/cursor";
import { AppError, invalidFields } from "@pm/kit/errors";
import { type Page, type PageRequest, toPage } from "@pm/kit/http/paging";
import type { JSONWebKeySet } from "jose";
import type { ClientContext } from "../client-address.ts";
import type { AuthDatabase } from "../tables.ts";
import type { Change, UnitOfWork } from "../unit-of-work.ts";
import { toPublicKeys } from "./keys.ts";
import {
  type ClientChange,
  type ClientRow,
  deleteClient,
  findClient,
  insertClient,
  listClients,
  lockClient,
  updateClient,
} from "./store.ts";

type NewClient = { name: string; scopes: ClientScope[]; teamId?: string | null | undefined; jwks?: JSONWebKeySet | undefined };
type ClientUpdate = { [Field in keyof NewClient]?: NewClient[Field] | undefined };

/** `secret` is shown this once: only its hash is stored. */
type WithSecret = { client: ClientRow; secret?: string };

export type Clients = {
  list(page: PageRequest): Promise<Page<ClientRow>>;
  /** @throws AppError not_found */
  get(id: string): Promise<ClientRow>;
  /** Without keys, the client gets a secret. */
  create(client: NewClient, context: ClientContext): Promise<WithSecret>;
  /** New scopes, another team and new keys make the client's tokens void. */
  update(id: string, update: ClientUpdate, context: ClientContext): Promise<ClientRow>;
  /**
   * Makes the former secret and the client's tokens void. @throws AppError failed_precondition for a client with keys
   */
  rotateSecret(id: string, context: ClientContext): Promise<WithSecret>;
  disable(id: string, context: ClientContext): Promise<ClientRow>;
  enable(id: string, context: ClientContext): Promise<ClientRow>;
  remove(id: string, context: ClientContext): Promise<void>;
};

export const hashSecret = (secret: string) => createHash("sha256").update(secret).digest();
const newSecret = () => randomBytes(32).toString("base64url");

const noClient = () => new AppError("not_found", "There is no such API client.");

export function createClients(options: { db: AuthDatabase; unitOfWork: UnitOfWork; cursors: Cursors; now: () => number }): Clients {
  const { db, unitOfWork, cursors, now } = options;

  async function get(id: string): Promise<ClientRow> {
    const client = await findClient(db, id);
    if (!client) throw noClient();
    return client;
  }

  /** Locks a client and changes it. */
  const change = (id: string, context: ClientContext, work: (change: Change, client: ClientRow) => Promise<void>) =>
    unitOfWork.run(context, async (change) => {
      const client = await lockClient(change.tx, id);
      if (!client) throw noClient();
      await work(change, client);
    });

  return {
    get,

    async list({ cursor, limit }) {
      const after = cursor === undefined ? undefined : String(cursors.open(["clients"], cursor)[0]);
      const rows = await listClients(db, { after, limit: limit + 1 });
      return toPage(rows, limit, (last) => cursors.seal(["clients"], [last.id]));
    },

    async create({ name, scopes, teamId = null, jwks }, context) {
      checkTeam(scopes, teamId);
      const keys = jwks ? await toPublicKeys(jwks) : null;
      const secret = keys ? undefined : newSecret();
      const id = await unitOfWork.run(context, async ({ tx, audit }) => {
        const secretHash = secret === undefined ? null : hashSecret(secret);
        const created = await insertClient(tx, { name, scopes, team_id: teamId, secret_hash: secretHash, jwks: keys });
        audit("authz_client_created", clientSubject(created), { name, scopes, teamId });
        return created;
      });
      return { client: await get(id), ...(secret !== undefined && { secret }) };
    },

    async update(id, { name, scopes, teamId, jwks }, context) {
      const keys = jwks && (await toPublicKeys(jwks));
      await change(id, context, async (change, client) => {
        const wanted = { name, scopes, team_id: teamId, jwks: keys };
        const differs = ([field, value]: [string, unknown]) =>
          value !== undefined && !isDeepStrictEqual(value, client[field as keyof ClientRow]);
        const values: ClientChange = Object.fromEntries(Object.entries(wanted).filter(differs));
        const fields = Object.keys(values);
        if (fields.length === 0) return;
        checkTeam(values.scopes ?? client.scopes, values.team_id === undefined ? client.team_id : values.team_id);
        await updateClient(change.tx, id, { ...values, ...(values.jwks && { secret_hash: null }) });
        change.audit("authz_client_updated", clientSubject(id), values);
        if (fields.some((field) => field !== "name")) await change.endTokens({ clientId: id });
      });
      return get(id);
    },

    async rotateSecret(id, context) {
      const secret = newSecret();
      await change(id, context, async (change, client) => {
        if (client.jwks)
          throw new AppError("failed_precondition", "This API client has keys and no secret. Replace its `jwks` by PATCH instead.");
        await updateClient(change.tx, id, { secret_hash: hashSecret(secret) });
        change.audit("authn_client_secret_change", clientSubject(id));
        await change.endTokens({ clientId: id });
      });
      return { client: await get(id), secret };
    },

    async disable(id, context) {
      await change(id, context, async (change, client) => {
        if (client.disabled_at) return;
        await updateClient(change.tx, id, { disabled_at: new Date(now()) });
        change.audit("authz_client_disabled", clientSubject(id));
        await change.endTokens({ clientId: id });
      });
      return get(id);
    },

    async enable(id, context) {
      await change(id, context, async (change, client) => {
        if (!client.disabled_at) return;
        await updateClient(change.tx, id, { disabled_at: null });
        change.audit("authz_client_enabled", clientSubject(id));
      });
      return get(id);
    },

    remove: (id, context) =>
      change(id, context, async (change, { name }) => {
        await change.endTokens({ clientId: id });
        await deleteClient(change.tx, id);
        change.audit("authz_client_deleted", clientSubject(id), { name });
      }),
  };
}

/** A client sees all patients, or those of a team and its own. */
function checkTeam(scopes: ClientScope[], teamId: string | null): void {
  if (teamId !== null && scopes.includes("patient:all"))
    throw invalidFields([{ path: "teamId", message: "adds nothing to patient:all, which sees all patients; leave out one of them" }]);
}
