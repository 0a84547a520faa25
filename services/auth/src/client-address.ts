/** The client that sent a request: its network address and its program. */
import { createHash, timingSafeEqual } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { type BlockList, isIPv4, isIPv6 } from "node:net";
import { type RestContext, requestContext } from "@pm/kit/http/rest";
import type { RequestContext } from "@pm/kit/request-context";

export type ClientContext = RequestContext & {
  /** The client's network address. */
  address: string;
  /** Whether the request came through the gateway, which states the address of its client in every request. */
  fromGateway: boolean;
  /** For the list in which users recognise their own sessions. */
  userAgent: string;
};

export type ContextOf = (c: RestContext) => ClientContext;

/**
 * The address of a client. If the connection comes from a gateway's network, or brings the gateway's secret, it is the
 * one in `x-envoy-external-address`, which the gateway sets itself on every request. Otherwise it is the address of the
 * connection. An IPv6 client has a whole /64 network, so the network counts as one address.
 */
export function clientAddress(
  socketAddress: string | undefined,
  header: string | undefined,
  gateways: BlockList,
  hasSecret = false,
): string {
  const peer = (socketAddress ?? "").replace(/^::ffff:/, "");
  const family = isIPv4(peer) ? "ipv4" : isIPv6(peer) ? "ipv6" : undefined;
  const trusted = hasSecret || (family !== undefined && gateways.check(peer, family));
  const stated = header?.replace(/^::ffff:/, "") ?? "";
  const address = trusted && (isIPv4(stated) || isIPv6(stated)) ? stated : peer;
  return isIPv6(address) ? `${expand(address).slice(0, 4).join(":")}::/64` : address || "unknown";
}

/** The eight groups of an IPv6 address. */
function expand(address: string): string[] {
  const [head = "", tail] = (address.split("%")[0] ?? "").toLowerCase().split("::");
  const groups = (part: string | undefined) => (part ? part.split(":").map((group) => group.replace(/^0+(?=.)/, "")) : []);
  const [before, after] = [groups(head), groups(tail)];
  return [...before, ...Array.from({ length: Math.max(0, 8 - before.length - after.length) }, () => "0"), ...after];
}

/**
 * Returns the function that reads who acts, and from which client, out of a request.
 * @param gateways the networks from which a connection may state the address of the client behind it
 * @param secret what the gateway sends where its network is not known
 */
export function createContextReader(gateways: BlockList, secret: string | undefined): ContextOf {
  const digest = (text: string) => createHash("sha256").update(text).digest();
  const expected = secret === undefined ? undefined : digest(secret);
  return (c) => {
    // The adapter for Node passes Node's own request on. Requests that tests make without a network have none.
    const socket = (c.env as { incoming?: IncomingMessage } | undefined)?.incoming?.socket;
    const hasSecret = expected !== undefined && timingSafeEqual(expected, digest(c.req.header("x-gateway-secret") ?? ""));
    const stated = c.req.header("x-envoy-external-address");
    return {
      ...requestContext(c),
      address: clientAddress(socket?.remoteAddress, stated, gateways, hasSecret),
      fromGateway: stated !== undefined,
      userAgent: (c.req.header("user-agent") ?? "").slice(0, 200),
    };
  };
}
