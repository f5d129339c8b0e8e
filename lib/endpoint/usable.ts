// Answers in one place whether an end can be used and whether it can still be written to. The engines and the verbs
// query it at the moments when the answer may have changed.
import { alreadyDestroyed, alreadyEnded, type Failure } from '../contract/errors.js';
import { type Endpoint, streamIn } from './endpoint.js';

/** An end that is not known to have failed. */
export type UsableEndpoint = Exclude<Endpoint, { kind: 'unavailable' }>;

/**
 * The state of an end at this moment. A destination that its owner has ended is `ended`. An end of a relay is not: its
 * other direction can still be served.
 */
export function stateOf(end: Endpoint): 'usable' | 'ended' | 'destroyed' | 'unavailable' {
  if (end.kind === 'unavailable') return 'unavailable';
  const stream = streamIn(end);
  if (stream?.destroyed === true) return 'destroyed';
  return end.side === 'destination' && stream !== undefined && isEnded(stream) ? 'ended' : 'usable';
}

/** Whether a stream takes no more bytes. */
export function isEnded(stream: { writableEnded?: boolean }): boolean {
  return stream.writableEnded === true;
}

/** Whether an end is open: not destroyed before it was handed over, and with a descriptor where it needs one. */
export function isUsable(end: Endpoint): end is UsableEndpoint {
  const state = stateOf(end);
  return state === 'usable' || state === 'ended';
}

/** The failure of a transfer whose end is in a state that it cannot be used in. */
export function failureOf(end: Endpoint): Failure {
  if (end.kind === 'unavailable') return end.failure;
  if (stateOf(end) === 'ended') return alreadyEnded(end.side);
  return alreadyDestroyed(
    end.side,
    end.kind === 'socket' ? 'socket' : 'stream',
    streamIn(end)?.errored ?? null,
  );
}
