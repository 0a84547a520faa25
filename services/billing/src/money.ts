/** Amounts: whole minor units with an ISO 4217 currency. Signed sums stay bigint; nothing here ever rounds. */
import { create } from "@bufbuild/protobuf";
import { type Money, MoneySchema } from "@pm/proto/common/v1/money";

const currencies = new Set(Intl.supportedValuesOf("currency"));

/** Whether a code is a currency of ISO 4217, as the runtime's CLDR data lists them. */
export function isCurrency(code: string): boolean {
  return currencies.has(code);
}

export function toMoney(minorUnits: bigint, currencyCode: string): Money {
  return create(MoneySchema, { minorUnits, currencyCode });
}
