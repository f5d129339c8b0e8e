import { AsyncLocalStorage } from 'node:async_hooks';
import { randomBytes } from 'node:crypto';
import { tracingChannel } from 'node:diagnostics_channel';

/** The span that surrounds what is running. */
const current = new AsyncLocalStorage();

/**
 * Makes a span of every transfer of this thread, a child of the span in whose context it was started. To see the ones
 * that were refused for a mistake in their arguments, catch their rejections: nothing is published of them.
 */
export function traceTransfers(print = console.log) {
  const spans = new WeakMap();
  tracingChannel('fdsplice').subscribe({
    start(transfer) {
      spans.set(transfer, begin(`fdsplice.${transfer.kind}`));
    },
    // Published after 'error', too.
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

/** Runs `work` inside a span, which ends with the promise that it gives. */
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
  // As OpenTelemetry has it: 1 is OK, 2 is ERROR.
  const status = error ? { code: 2, message: String(error) } : { code: 1 };
  return { ...span, endTimeUnixNano: now(), attributes, status };
}

/** Nanoseconds since 1970, as text: more than a number holds. */
function now() {
  return String(BigInt(Math.round((performance.timeOrigin + performance.now()) * 1000)) * 1000n);
}
