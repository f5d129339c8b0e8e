// Pipes of Node's at the ends of a transfer: a relay takes down those between its two ends, and all others are a caller's
// mistake.
import type { EventEmitter } from 'node:events';
import { invalidValue } from '../contract/errors.js';
import { pipesInto, pipesOf, stateOf } from '../node/internals.js';
import { type Endpoint, streamIn } from './endpoint.js';

/**
 * Rejects ends whose bytes a pipe would share with the transfer: a source that is piped anywhere, and an end of a relay
 * with a pipe to or from a third stream.
 */
export function requireOwnPipes(one: Endpoint, other: Endpoint): void {
  if (one.side === 'source') {
    if (pipesOut(one).length > 0)
      throw invalidValue('source', 'must not be piped to a stream: unpipe() it first');
    return;
  }
  requireOwn(one, other);
  requireOwn(other, one);
}

function requireOwn(end: Endpoint, opposite: Endpoint): void {
  const out = pipesOut(end);
  if (out.length > 0 && pipesBetween(out, opposite) < out.length) {
    throw invalidValue(
      end.side,
      `must not be piped to a stream other than "${opposite.side}": unpipe() it first`,
    );
  }
  const into = pipesIn(end);
  if (into > 0 && pipesBetween(pipesOut(opposite), end) < into) {
    throw invalidValue(end.side, `must not have a stream other than "${opposite.side}" piped into it`);
  }
}

/**
 * Takes down the pipes between the two ends of a relay. Returns whether there were any. Their bytes stay in the buffers of
 * the ends, in order. If 'data' is being emitted, a pipe still writes that chunk when its listener is called, so writes must
 * be let through until the next tick.
 */
export function takeDownPipes(a: Endpoint, b: Endpoint): boolean {
  let isPiped = false;
  for (const end of [a, b]) {
    const stream = streamIn(end);
    if (stream === undefined || !('unpipe' in stream) || pipesOut(end).length === 0) continue;
    isPiped = true;
    stream.unpipe();
  }
  return isPiped;
}

const NONE: readonly object[] = [];

function pipesOut(end: Endpoint): readonly object[] {
  const stream = streamIn(end);
  return stream === undefined ? NONE : pipesOf(stream);
}

/** How many of the pipes lead to this end. */
function pipesBetween(pipes: readonly object[], end: Endpoint): number {
  const stream = streamIn(end);
  if (stream === undefined) return 0;
  const state = stateOf(stream, 'writable');
  return pipes.filter((destination) => stateOf(destination, 'writable') === state).length;
}

function pipesIn(end: Endpoint): number {
  const stream: Partial<EventEmitter> | undefined = streamIn(end);
  // Not every look-alike of a stream has all methods of EventEmitter.
  if (stream?.listeners === undefined || stream.listenerCount?.('unpipe') === 0) return 0;
  return pipesInto(stream as EventEmitter);
}
