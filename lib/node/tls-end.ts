// Distinguishes the two ends of input of a TLS session: by close_notify, and by a FIN without it, which Node reports as the
// same 'end'. The second may be a stream that somebody on the way has cut off (RFC 8446, section 6.1).
import { Socket } from 'node:net';
import { interceptTlsReads } from './carrier-internals.js';

/** Whether the input of a TLS session ended without close_notify, after {@link watchTlsEnd}. */
const cut = new WeakSet<object>();

export function isCutOff(stream: object): boolean {
  return cut.has(stream);
}

/**
 * Notes how the input of a TLS session ends, until the returned function is called. An end from before, and a session that
 * runs over a stream other than a TCP or Unix socket, are not noted.
 */
export function watchTlsEnd(stream: object): () => void {
  if (!(stream instanceof Socket) || !('encrypted' in stream)) return () => {};
  return interceptTlsReads(stream, () => cut.add(stream));
}
