// Spans of transfers in the format of OpenTelemetry, made from the tracing channel of fdsplice.
import { AsyncLocalStorage } from 'node:async_hooks';
import { randomBytes } from 'node:crypto';
import { tracingChannel } from 'node:diagnostics_channel';

/** The active span. */
const current = new AsyncLocalStorage();

/**
 * Prints a span for every transfer of this thread, as a child of the span that was active at its start. The channel
 * publishes nothing about calls with mistakes in their arguments; those only reject.
 */
export function traceTransfers(print = console.log) {
  const spans = new WeakMap();
  tracingChannel('fdsplice').subscribe({
    start(transfer) {
      spans.set(transfer, begin(`fdsplice.${transfer.kind}`));
    },
    // Also published after 'error'.
    asyncEnd(transfer) {
      const { kind, result, error } = transfer;
      const counts = result && {
        'fdsplice.tx': result.tx,
        'fdsplice.rx': result.rx,
        'fdsplice.zero_copy': result.zeroCopy,
        'fdsplice.engine': result.engine,
      };
      const failed = error && { 'error.type': error.code ?? error.name };
      const attributes = { 'fdsplice.kind': kind, ...counts, ...failed };
      print(JSON.stringify(ended(spans.get(transfer), attributes, error)));
    },
    end() {},
    asyncStart() {},
    error() {},
  });
}

/** Runs `work` inside a span, which ends when the returned promise settles. */
export async function inSpan(name, attributes, work, print = console.log) {
  const span = begin(name);
  const result = await current.run(span, work);
  print(JSON.stringify(ended(span, attributes, result.error)));
}

function begin(name) {
  const parent = current.getStore();
  return {
    name,
    traceId: parent?.traceId ?? randomBytes(16).toString('hex'),
    spanId: randomBytes(8).toString('hex'),
    ...(parent && { parentSpanId: parent.spanId }),
    startTimeUnixNano: now(),
  };
}

function ended(span, attributes, error) {
  // Status codes of OpenTelemetry: 1 is OK, 2 is ERROR.
  const status = error ? { code: 2, message: String(error) } : { code: 1 };
  return { ...span, endTimeUnixNano: now(), attributes, status };
}

/** Nanoseconds since 1970, as text: a number cannot hold them exactly. */
function now() {
  return String(BigInt(Math.round((performance.timeOrigin + performance.now()) * 1000)) * 1000n);
}
