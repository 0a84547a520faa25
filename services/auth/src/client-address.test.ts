import fc from "fast-check";
import { expect, test } from "vitest";
import { clientAddress } from "./client-address.ts";
import { parseNetworks } from "./config.ts";

const gateways = parseNetworks("127.0.0.0/8, 10.0.0.0/8, ::1");

test.each([
  ["10.1.2.3", "203.0.113.7", "203.0.113.7"],
  ["::ffff:10.1.2.3", "203.0.113.7", "203.0.113.7"],
  ["::1", "203.0.113.7", "203.0.113.7"],
  ["192.0.2.1", "203.0.113.7", "192.0.2.1"],
  ["10.1.2.3", undefined, "10.1.2.3"],
  ["10.1.2.3", "not an address", "10.1.2.3"],
  ["10.1.2.3", "203.0.113.7, 198.51.100.1", "10.1.2.3"],
  ["10.1.2.3", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
  ["10.1.2.3", "2001:db8:1:2::9", "2001:db8:1:2::/64"],
  ["10.1.2.3", "::ffff:203.0.113.7", "203.0.113.7"],
  [undefined, "203.0.113.7", "unknown"],
])("a connection from %s that states %s counts as %s", (socket, header, expected) => {
  expect(clientAddress(socket, header, gateways)).toBe(expected);
});

test("whatever a client states, a connection from elsewhere counts as itself", () => {
  fc.assert(
    fc.property(fc.oneof(fc.ipV4(), fc.ipV6(), fc.string()), (header) => clientAddress("192.0.2.1", header, gateways) === "192.0.2.1"),
  );
});

test("all addresses of an IPv6 network of 64 bits count as one", () => {
  const host = fc.array(fc.integer({ min: 0, max: 0xffff }), { minLength: 4, maxLength: 4 });
  fc.assert(
    fc.property(host, (groups) => {
      const address = `2001:db8:0:42:${groups.map((group) => group.toString(16)).join(":")}`;
      return clientAddress("10.0.0.1", address, gateways) === "2001:db8:0:42::/64";
    }),
  );
});

test.each(["10.0.0.0/33", "nonsense", "10.0.0/8", "::1/200"])("%s is no network", (text) => {
  expect(() => parseNetworks(text)).toThrow(text);
});
