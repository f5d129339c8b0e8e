// Tells the departure of a peer that had ended its input from other failures of a relay.
import type { Failure } from '../contract/errors.js';
import type { Flow, Reader } from './flow.js';

/** Codes of a connection that its peer has closed or reset. */
const LOST = new Set(['ECONNRESET', 'EPIPE', 'ENOTCONN']);

function isLost({ code, afterEnd }: Failure): boolean {
  return afterEnd !== false && LOST.has(code);
}

/**
 * Whether the end of input that Node has reported was a reset. Linux fails a write with EPIPE if the input of the
 * connection had ended before its reset.
 */
function wasReset({ code, syscall, afterEnd }: Failure, { isTcp }: Reader): boolean {
  const isCertain = afterEnd === undefined && isTcp === true && process.platform === 'linux';
  return isCertain && code === 'ECONNRESET' && syscall === 'write';
}

/** Whether the peer of a failed side had ended its input, all of which `from` has delivered, before the failure. */
export function hasLeft(failure: Failure, from: Flow): boolean {
  return isLost(failure) && from.isDelivered && !wasReset(failure, from.reader);
}

/**
 * Whether only the end of `to` is lost: its destination has failed, and had ended its own input, which `from` reads, and
 * had accepted all there was for it.
 */
export function losesOnlyEnd(failure: Failure, from: Flow, to: Flow): boolean {
  return isLost(failure) && from.reader.isAtEnd && to.isDelivered;
}
