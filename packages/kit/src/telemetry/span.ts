/** A span of OpenTelemetry that is being recorded. It holds a bounded number of attributes, events and links. */
import {
  type Attributes,
  type AttributeValue,
  type Exception,
  type Link,
  type Span,
  type SpanContext,
  SpanKind,
  SpanStatusCode,
} from "@opentelemetry/api";

/** As the specification of OpenTelemetry has it. */
const limit = 128;

type SpanEvent = { name: string; at: number; attributes: Attributes };

/**
 * Milliseconds since 1970, with fractions. Within a process they never go back; the exporter corrects `offset` when the
 * clock was set.
 */
export const clock = { offset: performance.timeOrigin, now: (): number => clock.offset + performance.now() };

/** What the exporter reads of a span that has ended. */
export class RecordedSpan implements Span {
  readonly context: SpanContext;
  readonly parentSpanId: string | undefined;
  readonly kind: SpanKind;
  startedAt = clock.now();
  readonly attributes: Attributes = {};
  readonly links: Link[] = [];
  readonly events: SpanEvent[] = [];
  name: string;
  endedAt = 0;
  isError = false;
  droppedLinks = 0;
  #attributeCount = 0;
  readonly whenEnded: (span: RecordedSpan) => void;

  constructor(options: {
    name: string;
    context: SpanContext;
    parentSpanId?: string | undefined;
    kind?: SpanKind | undefined;
    attributes?: Attributes | undefined;
    links?: readonly Link[] | undefined;
    whenEnded: (span: RecordedSpan) => void;
  }) {
    this.name = options.name;
    this.context = options.context;
    this.parentSpanId = options.parentSpanId;
    this.kind = options.kind ?? SpanKind.INTERNAL;
    this.whenEnded = options.whenEnded;
    if (options.attributes) this.setAttributes(options.attributes);
    for (const link of options.links ?? []) this.addLink(link);
  }

  spanContext(): SpanContext {
    return this.context;
  }

  isRecording(): boolean {
    return this.endedAt === 0;
  }

  setAttribute(key: string, value: AttributeValue): this {
    if (!this.isRecording()) return this;
    if (!(key in this.attributes) && ++this.#attributeCount > limit) return this;
    this.attributes[key] = value;
    return this;
  }

  setAttributes(attributes: Attributes): this {
    for (const key in attributes) {
      const value = attributes[key];
      if (value !== undefined) this.setAttribute(key, value);
    }
    return this;
  }

  addEvent(name: string, attributes: unknown = {}): this {
    if (this.isRecording() && this.events.length < limit)
      this.events.push({ name, at: clock.now(), attributes: (attributes ?? {}) as Attributes });
    return this;
  }

  addLink(link: Link): this {
    if (!this.isRecording()) return this;
    if (this.links.length < limit) this.links.push(link);
    else this.droppedLinks++;
    return this;
  }

  addLinks(links: Link[]): this {
    for (const link of links) this.addLink(link);
    return this;
  }

  /** The description is left out, because messages of errors may hold personal data. */
  setStatus({ code }: { code: SpanStatusCode }): this {
    if (this.isRecording()) this.isError = code === SpanStatusCode.ERROR;
    return this;
  }

  updateName(name: string): this {
    if (this.isRecording()) this.name = name;
    return this;
  }

  /** Records that there was an exception, and of which kind. Its message and stack may hold personal data. */
  recordException(exception: Exception): void {
    this.setAttribute("error.type", errorTypeOf(exception));
    this.setStatus({ code: SpanStatusCode.ERROR });
  }

  end(): void {
    if (!this.isRecording()) return;
    this.endedAt = clock.now();
    this.whenEnded(this);
  }
}

/** `error.type`: the code of an error, such as an SQLSTATE or one of `AppError`, else the name of its class. */
export function errorTypeOf(error: unknown): string {
  if (!(error instanceof Error)) return "_OTHER";
  // Its code is a number of another time, 0 for most.
  if (error instanceof DOMException) return error.name;
  return "code" in error && error.code !== undefined ? String(error.code) : error.name;
}
