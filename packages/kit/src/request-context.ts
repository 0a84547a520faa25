/**
 * What business rules know about the request that they serve. `requestContext` reads it for REST, `rpcContext` for RPC.
 */
export type RequestContext = {
  /** Who is accountable: the person for whom a service calls, else the caller; `anonymous` for public operations. */
  actorId: string;
  requestId: string;
  /** W3C trace context, for events and further calls. */
  traceparent: string;
};
