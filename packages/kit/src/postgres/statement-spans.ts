/** Spans of statements. They have a statement's name, or its kind and table, and never its text or its values. */
import { SpanKind } from "@opentelemetry/api";
import type { CompiledQuery, LogEvent } from "kysely";
import { inSpan, recordedSpan, recordPast } from "../telemetry/tracing.ts";

const detailsOf = (summary: string) => ({
  kind: SpanKind.CLIENT,
  attributes: { "db.system.name": "postgresql", "db.query.summary": summary },
});

/** Runs a named statement. Waiting for a connection is part of its span. */
export function inStatement<Result>(name: string, run: () => Promise<Result>): Promise<Result> {
  return recordedSpan() ? inSpan(name, detailsOf(name), run) : run();
}

/** For statements that are rarely worth a span, known afterwards. @param started by `performance.now()` */
export const recordStatementSince = (name: string, started: number): void => recordPast(name, detailsOf(name), performance.now() - started);

/** Kysely's `log`: it is told of each statement that kysely ran. */
export function recordStatement(event: LogEvent): void {
  if (!recordedSpan()) return;
  const summary = summaryOf(event.query.query);
  recordPast(summary, detailsOf(summary), event.queryDurationMillis, event.level === "error" ? event.error : undefined);
}

/** `SELECT patients`; `RAW` if kysely does not know what a statement does. */
function summaryOf(query: CompiledQuery["query"]): string {
  const operation = query.kind.replace(/(Query)?Node$/, "").toUpperCase();
  const { from, into, table } = query as { from?: { froms: Target[] }; into?: Target; table?: Target };
  const target = from?.froms[0] ?? into ?? table;
  const name = target?.table?.identifier?.name;
  return name === undefined ? operation : `${operation} ${name}`;
}

type Target = { table?: { identifier?: { name?: string } } };
