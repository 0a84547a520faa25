import { type DescMessage, ScalarType } from "@bufbuild/protobuf";
import { BillingService } from "@pm/proto/billing/v1/billing";
import { expect, test } from "vitest";
import { hasTexts, texts } from "./concealing.ts";

/** What identifies nobody: ids, days, numbers of documents, codes of currencies and taxes, and tokens. */
const known = /Id$|Date$|[nN]umber$|^(currencyCode|code|etag|status|nextPageToken)$/;

test("every text of an answer is known as one that identifies somebody, or as one that does not", () => {
  const seen = new Set<DescMessage>();
  const unknown: string[] = [];
  const look = (schema: DescMessage) => {
    if (seen.has(schema)) return;
    seen.add(schema);
    for (const { localName, message, scalar } of schema.fields) {
      if (message) look(message);
      const isText = scalar === ScalarType.STRING;
      if (isText && !known.test(localName) && !texts.get(schema)?.includes(localName)) unknown.push(`${schema.name}.${localName}`);
    }
  };
  for (const { output } of BillingService.methods) look(output);
  expect(unknown).toEqual([]);
  const without = BillingService.methods.filter(({ output }) => !hasTexts(output));
  expect(without.map(({ name }) => name)).toEqual(["CreateBillingAccount", "BatchCreateBillingAccounts", "WriteOff"]);
});
