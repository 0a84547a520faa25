/** Statements as JSON, written as fast as they are read: the protobuf JSON of their messages. */
import { create, toJson, toJsonString } from "@bufbuild/protobuf";
import {
  type GetStatementResponse,
  GetStatementResponseSchema,
  type Payer,
  PayerSchema,
  type Transaction,
  TransactionSchema,
} from "@pm/proto/billing/v1/billing";
import { MoneySchema } from "@pm/proto/common/v1/money";
import type { Days, OpenStatement, PayerStatement, StatementPart } from "../ledger/statements.ts";
import type { LinkedStatements } from "../links/links.ts";

export async function* statementJson({ statement, parts, linked }: LinkedStatements): AsyncGenerator<string> {
  yield* unfinishedJson({ statement: { ...statement, linkedStatements: [] }, parts });
  if (linked.length > 0) yield ',"linkedStatements":[';
  for (const [index, each] of linked.entries()) {
    if (index > 0) yield ",";
    yield* unfinishedJson(each);
    yield "}";
  }
  yield linked.length > 0 ? "]}" : "}";
}

/** A statement without its last brace. */
async function* unfinishedJson({ statement, parts }: OpenStatement): AsyncGenerator<string> {
  yield beginningOf(toJsonString(GetStatementResponseSchema, statement), "transactions");
  let isFirst = true;
  for await (const { transactions } of parts) {
    yield listOf(transactions, isFirst);
    isFirst &&= transactions.length === 0;
  }
  yield "]";
}

export async function* payerStatementJson(
  of: Days & { payer: Payer; currencyCode: string; statement: PayerStatement },
): AsyncGenerator<string> {
  const { payer, currencyCode, fromDate, toDate, statement } = of;
  const { sums, outstanding, credit, invoiced, transactionCount } = statement;
  const all = create(GetStatementResponseSchema, { fromDate, toDate, ...sums, transactionCount });
  const beginning = {
    ...{ payer: toJson(PayerSchema, payer), currencyCode },
    ...(toJson(GetStatementResponseSchema, all) as object),
    ...{ outstanding: toJson(MoneySchema, outstanding), credit: toJson(MoneySchema, credit) },
    invoiced: toJson(MoneySchema, invoiced),
  };
  yield beginningOf(JSON.stringify(beginning), "statements");
  let current: GetStatementResponse | undefined;
  let isFirst = true;
  for await (const part of statement.parts) {
    if (part.statement !== current) {
      if (current) yield "]},";
      yield beginningOf(toJsonString(GetStatementResponseSchema, part.statement), "transactions");
      isFirst = true;
    }
    current = part.statement;
    yield listOf(part.transactions, isFirst);
    isFirst &&= part.transactions.length === 0;
  }
  yield current ? "]}]}" : "]}";
}

/** An object that is open at the end, with a list in it. */
function beginningOf(object: string, list: string): string {
  return `${object.slice(0, -1)},"${list}":[`;
}

function listOf(transactions: StatementPart["transactions"], isFirst: boolean): string {
  const texts = transactions.map((transaction: Transaction) => toJsonString(TransactionSchema, transaction));
  return `${isFirst || texts.length === 0 ? "" : ","}${texts.join(",")}`;
}
