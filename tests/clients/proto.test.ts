/** What programs outside get: the files of proto/, and the package that re-exports what was generated from them. */
import { execFileSync } from "node:child_process";
import { resolve } from "node:path";
import { type DescService, fromBinary } from "@bufbuild/protobuf";
import { embedFileDesc } from "@bufbuild/protobuf/codegenv2";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { file_buf_validate_validate } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { accessOf, isForServicesOnly, operations } from "@pm/kit/auth/access";
import { expect, test } from "vitest";
import * as client from "../../packages/client/src/client.ts";

/** A proxy that nobody answers at: whoever looks on the network fails. */
const offline = { ...process.env, HTTPS_PROXY: "http://127.0.0.1:1", HTTP_PROXY: "http://127.0.0.1:1", NO_PROXY: "" };
const proto = resolve(import.meta.dirname, "../../proto");
const bytes = execFileSync("buf", ["build", proto, "--as-file-descriptor-set", "-o", "-"], { env: offline, maxBuffer: 2 ** 26 });
const { file: files } = fromBinary(FileDescriptorSetSchema, bytes);

test("the proto folder is all that its files need, without the network", () => {
  const known = new Set(files.map(({ name }) => name));
  expect(files.flatMap(({ dependency }) => dependency).filter((name) => !known.has(name))).toEqual([]);
  expect(known).toContain("billing/v1/billing.proto");
});

test("the rules of protovalidate in the proto folder are those by which billing validates", () => {
  const [vendored] = files.filter(({ name }) => name === "buf/validate/validate.proto");
  expect(vendored && embedded(vendored)).toEqual(embedded(file_buf_validate_validate.proto));
});

/** Without comments and defaults, as code generators embed it. */
function embedded(file: (typeof files)[number]): string {
  const result = embedFileDesc(file);
  if (result.bootable) throw new Error(`${file.name} cannot be compared`);
  return result.base64();
}

const exported = Object.entries(client) as [string, unknown][];
const services = exported.map(([, value]) => value as DescService).filter(({ kind }) => kind === "service");

test("the client has every method that people and API clients may call, and none that is for services only", () => {
  const methods = services.flatMap(({ typeName, methods }) => methods.map(({ name }) => `${typeName}/${name}`));
  const isForAnybody = (name: string) => !isForServicesOnly(accessOf(name) ?? "internal:totals");
  expect(methods.toSorted()).toEqual(
    Object.keys(operations)
      .filter((name) => name.includes("/") && isForAnybody(name))
      .toSorted(),
  );
});

test("the client has no events", () => {
  expect(exported.map(([name]) => name).filter((name) => /event/i.test(name))).toEqual([]);
});
