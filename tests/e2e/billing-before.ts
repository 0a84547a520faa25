/**
 * Preloaded into billing (`node --import`): makes its contract the one of the version before, in which an account needs
 * an e-mail, for as long as the file `BILLING_BEFORE` exists.
 */
import { existsSync } from "node:fs";
import { registerHooks } from "node:module";
import { fromBinary, getExtension, setExtension, toBinary } from "@bufbuild/protobuf";
import { base64Decode, base64Encode } from "@bufbuild/protobuf/wire";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { field as fieldRules, Ignore } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";

function withoutIgnore(descriptor: string): string {
  const file = fromBinary(FileDescriptorProtoSchema, base64Decode(descriptor));
  const request = file.messageType.find(({ name }) => name === "CreateBillingAccountRequest");
  const options = request?.field.find(({ name }) => name === "email")?.options;
  if (!options) throw new Error("CreateBillingAccountRequest.email has no rules");
  setExtension(options, fieldRules, { ...getExtension(options, fieldRules), ignore: Ignore.UNSPECIFIED });
  return base64Encode(toBinary(FileDescriptorProtoSchema, file), "std_raw");
}

if (existsSync(process.env.BILLING_BEFORE ?? ""))
  registerHooks({
    load(url, context, nextLoad) {
      const loaded = nextLoad(url, context);
      if (!url.endsWith("/proto/gen/billing/v1/billing_pb.js")) return loaded;
      return { ...loaded, source: String(loaded.source).replace(/(?<=fileDesc\(")[^"]+/, withoutIgnore) };
    },
  });
