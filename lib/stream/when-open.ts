// Waits for a source that is still being opened: a file, a connection or a TLS session.
import { ReadStream } from 'node:fs';
import { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { TLSSocket } from 'node:tls';

/** Calls `open` when a source is open, now if it is. Returns how to stop waiting. A source that fails is reported elsewhere. */
export function whenOpen(stream: Readable, open: () => void): () => void {
  const event = awaited(stream);
  if (event === undefined) {
    open();
    return () => {};
  }
  const opened = () => {
    // A client destroys its session in an earlier listener if the certificate is not valid.
    if (!stream.destroyed) open();
  };
  stream.once(event, opened);
  return () => void stream.off(event, opened);
}

/** The event of a stream that is not open yet. */
function awaited(stream: Readable): string | undefined {
  // A session has no finished message before its handshake is complete.
  if (stream instanceof TLSSocket) return stream.getFinished() === undefined ? 'secure' : undefined;
  if (stream instanceof Socket) return stream.connecting ? 'connect' : undefined;
  return stream instanceof ReadStream && stream.pending ? 'ready' : undefined;
}
