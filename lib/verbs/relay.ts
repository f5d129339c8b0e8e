// relay(): both directions between two ends at once.
import { type RelaySettings, relaySettings } from '../contract/options.js';
import type { RelayEnd, RelayOptions, Transfer } from '../contract/types.js';
import { lendConnections } from '../endpoint/connection.js';
import { areNative, type Endpoint, endpoint } from '../endpoint/endpoint.js';
import { relayNatively } from '../native/relay.js';
import { relayStreams } from '../stream/start.js';
import { refused, Task } from '../transfer/transfer.js';
import { checkEnds } from './check-ends.js';

/**
 * Relays bytes between `a` and `b` in both directions at once, until both have ended.
 *
 * Ownership: the relay owns sockets, connections and streams from the call on. It waits for their connections, delivers what Node had
 * buffered in them first and in order, and destroys both at the end. Numbers stay the caller's and are never closed.
 *
 * Half-close: when one side ends, the bytes in flight are drained and the other side is then ended for writing. The
 * opposite direction continues.
 *
 * Pipes: those between the two ends (`a.pipe(b)`, `pipeline(a, b)`) are taken down, whatever their options. Bytes that they
 * hold are delivered first and in order. Those that a pipe had written already are not counted. A pipeline calls back when
 * its streams close; on the native engine it may report `ERR_STREAM_PREMATURE_CLOSE`. A pipe to or from a third stream, as in
 * `a.pipe(gzip).pipe(b)`, is a caller's mistake. Listeners for `'data'` and `'readable'` stay, and get no byte of the relay.
 *
 * Calls by an owner: a write fails the relay. `end()` without data delivers the bytes that have arrived for that side
 * and ends it, and bytes that still come for it fail the relay. After the end of that side's input it changes nothing.
 * Of two ends that fail, the first one is reported: nothing that an owner does with the other end in consequence, as in a
 * listener for `'close'`, changes the error or its `side`.
 *
 * Failure and abort: every other ending (an error, an abort, a timeout, a socket destroyed from JavaScript) is passed on
 * to both sides as a reset, so that a truncated stream never looks complete. Unix sockets have no reset: their peers see
 * an end of input, and only the result shows the failure.
 *
 * Errors: rejects with a {@link TransferError} that carries the counts; with `reject: false` it resolves instead, with
 * that error in the result. A caller's mistake always rejects, with a `TypeError`, a `RangeError` or an `Error` with the
 * code `EBADF`, before any byte has moved and with nothing taken over.
 */
export function relay(a: RelayEnd, b: RelayEnd, options?: RelayOptions): Transfer {
  let settings, ends;
  try {
    settings = relaySettings(options);
    ends = checkEnds(
      () => endpoint('a', a),
      () => endpoint('b', b),
    );
  } catch (mistake) {
    return refused(mistake as Error);
  }
  return startRelay(ends, settings);
}

/** Relays between two ends that have been checked. */
export function startRelay(ends: [Endpoint, Endpoint], settings: RelaySettings): Transfer {
  if (areNative(ends)) return relayNatively(ends, settings);
  const task = new Task('relay', settings);
  lendConnections(task, ends);
  task.attempt(() => relayStreams(task, ends, settings));
  return task.transfer;
}
