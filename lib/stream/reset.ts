// Recognises streams that were cancelled or cut off and whose class reports that by their state alone: an HTTP/2 stream and
// a channel of ssh2 emit 'end', as after a clean end, and no 'error'.
import { setImmediate } from '../contract/clock.js';
import { channelLost, type Failure, streamReset } from '../contract/errors.js';
import type { Side } from '../contract/traffic.js';

interface Http2State {
  aborted?: unknown;
  rstCode?: unknown;
  /** The stream below a request or response of Node's compatibility API. */
  stream?: { rstCode?: unknown } | null;
}

/**
 * Turns of the event loop between the end of input of an HTTP/2 stream and its report. A client of Node's that cancels a
 * stream sends the end of its input first, and the cancellation right behind it.
 */
export const RESET_TURNS = 2;

/** Calls `then` after some turns of the event loop. */
export function afterTurns(turns: number, then: () => void): void {
  if (turns === 0) then();
  else setImmediate(() => afterTurns(turns - 1, then));
}

/** Whether a stream has the state of an HTTP/2 stream. */
export function isHttp2(stream: object): boolean {
  const { rstCode, stream: below } = stream as Http2State;
  return rstCode !== undefined || below?.rstCode !== undefined;
}

/** The failure of a stream that was cancelled, by either peer; `undefined` for any other stream. */
export function resetFailure(side: Side, stream: object): Failure | undefined {
  const { aborted, rstCode, stream: below } = stream as Http2State;
  const code = rstCode ?? below?.rstCode;
  if (typeof code === 'number' && code !== 0 /* NO_ERROR, RFC 9113 section 7 */)
    return streamReset(side, code);
  return aborted === true ? streamReset(side, undefined) : undefined;
}

/** The fields of a channel of ssh2 that show how it has ended. */
interface ChannelState {
  incoming?: { state?: unknown } | null;
  outgoing?: { state?: unknown } | null;
}

/**
 * How the input of a channel of ssh2 has ended; `undefined` for any other stream. A lost connection closes the channel
 * without an answer to its peer; to each close by the peer, ssh2 answers at once. Later the two cannot be told apart.
 */
export function channelEnd(stream: object): 'eof' | 'lost' | undefined {
  const { incoming, outgoing } = stream as ChannelState;
  if (incoming?.state === 'eof') return 'eof';
  const isUnanswered = outgoing?.state === 'open' || outgoing?.state === 'eof';
  return incoming?.state === 'closed' && isUnanswered ? 'lost' : undefined;
}

/** The failure of a channel of ssh2 whose connection was lost; `undefined` for any other stream. */
export function lossFailure(side: Side, stream: object): Failure | undefined {
  return channelEnd(stream) === 'lost' ? channelLost(side) : undefined;
}
