/** Elements that several resources of billing have. */
import { type Timestamp, timestampDate, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { toDecimal } from "@pm/kit/money";
import type { Tax } from "@pm/proto/billing/v1/events";
import type { Money } from "@pm/proto/common/v1/money";
import type * as fhir from "fhir/r4.js";
import type { Span } from "../protocol/criteria.ts";
import { ours } from "../protocol/resource.ts";

/** An amount with the digits of its currency: `12.50`. A double would lose its last zero, and of large ones a digit. */
export function toMoney(money: Money | undefined): fhir.Money {
  const { minorUnits = 0n, currencyCode = "" } = money ?? {};
  return { value: JSON.rawJSON(toDecimal({ minorUnits, currencyCode })) as unknown as number, currency: currencyCode };
}

/** An amount of the examples. */
export const euros = (minorUnits: bigint) => ({ minorUnits, currencyCode: "EUR" });

export const toInstant = (time: Timestamp | undefined): string | undefined => time && timestampDate(time).toISOString();

export const extensionUrl = (name: string) => `${ours}/StructureDefinition/${name}`;

/** An amount that the resource has no element for. */
export const amountExtension = (name: string, money: Money | undefined): fhir.Extension => ({
  url: extensionUrl(name),
  valueMoney: toMoney(money),
});

/** A rate: 1900 basis points are 0.19. */
export const toFactor = (basisPoints: number): number => basisPoints / 10_000;

export const taxExtension = ({ code, rateBasisPoints, net, tax }: Tax): fhir.Extension => ({
  url: extensionUrl("tax"),
  extension: [
    { url: "code", valueString: code },
    { url: "rate", valueDecimal: toFactor(rateBasisPoints) },
    { url: "net", valueMoney: toMoney(net) },
    { url: "tax", valueMoney: toMoney(tax) },
  ],
});

/** A text that is erased with its patient. */
export const toConcept = (text: string): fhir.CodeableConcept =>
  text === "" ? { extension: [{ url: "http://hl7.org/fhir/StructureDefinition/data-absent-reason", valueCode: "masked" }] } : { text };

export const referTo = (type: string, id: string): fhir.Reference => ({ reference: `${type}/${id}` });

/** Somebody who pays for patients. There is no resource of them here, so a reference only identifies them. */
export const toPayer = (payerId: string, name?: string): fhir.Reference => ({
  identifier: { system: `${ours}/payers`, value: payerId },
  ...(name && { display: name }),
});

/** A span of time as billing takes it. */
export const timesOf = ({ from, to }: Span) => ({
  ...(from && { startTime: timestampFromDate(from) }),
  ...(to && { endTime: timestampFromDate(to) }),
});
