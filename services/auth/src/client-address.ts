/** Where a request comes from. */
import type { IncomingMessage } from "node:http";
import { BlockList, isIPv4, isIPv6 } from "node:net";
import type { RestContext } from "@pm/kit/http/rest";

export type Origin = {
  requestId: string;
  traceparent: string;
  /** The client's network address. */
  address: string;
  /** For the user, to recognise his sessions. */
  userAgent: string;
};

/**
 * Reads a list of networks (`10.0.0.0/8,::1/128`).
 * @throws Error that names the entry which is no network.
 */
export function parseNetworks(text: string): BlockList {
  const list = new BlockList();
  for (const entry of text
    .split(",")
    .map((part) => part.trim())
    .filter(Boolean)) {
    const [address = "", length] = entry.split("/");
    const family = isIPv4(address) ? "ipv4" : isIPv6(address) ? "ipv6" : undefined;
    const bits = length === undefined ? (family === "ipv4" ? 32 : 128) : Number(length);
    if (!family || !Number.isInteger(bits) || bits < 0 || bits > (family === "ipv4" ? 32 : 128))
      throw new Error(`${entry} is not a network such as 10.0.0.0/8`);
    list.addSubnet(address, bits, family);
  }
  return list;
}

/**
 * The address of the client: what the gateway says (`x-envoy-external-address`, which it overwrites for everybody) where the
 * connection comes from a gateway's network, else the address of the connection itself. IPv6 clients own whole /64 networks,
 * so that is what counts as one.
 */
export function clientAddress(socketAddress: string | undefined, header: string | undefined, gateways: BlockList): string {
  const peer = (socketAddress ?? "").replace(/^::ffff:/, "");
  const family = isIPv4(peer) ? "ipv4" : isIPv6(peer) ? "ipv6" : undefined;
  const trusted = family !== undefined && gateways.check(peer, family);
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

/** Reads where requests come from. @param gateways networks from which a connection may say whose request it passes on */
export function createOrigins(gateways: BlockList): (c: RestContext) => Origin {
  return (c) => {
    // The adapter for Node passes the request of Node itself on; without a network (tests) there is none.
    const socket = (c.env as { incoming?: IncomingMessage } | undefined)?.incoming?.socket;
    return {
      requestId: c.get("requestId"),
      traceparent: c.get("traceparent"),
      address: clientAddress(socket?.remoteAddress, c.req.header("x-envoy-external-address"), gateways),
      userAgent: (c.req.header("user-agent") ?? "").slice(0, 200),
    };
  };
}
