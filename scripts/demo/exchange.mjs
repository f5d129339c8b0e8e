import { once } from 'node:events';
import { finished } from 'node:stream/promises';
import { newHash, SeededStream } from './data.mjs';

/** What went through one end of a connection. */
class Tally {
  bytes = 0;
  #hash = newHash();

  add(piece) {
    this.bytes += piece.length;
    this.#hash.update(piece);
  }

  finish() {
    return { bytes: this.bytes, sha256: this.#hash.digest('hex') };
  }
}

/** Sends `bytes` bytes and receives until the other side ends, both at once, hashing what goes each way. */
export async function exchange(socket, seed, bytes, onProgress) {
  const sent = new Tally();
  const received = new Tally();
  const timer = setInterval(() => onProgress?.(sent.bytes, received.bytes), 100);
  socket.on('data', (piece) => received.add(piece));
  try {
    await Promise.all([send(socket, seed, bytes, sent), finished(socket)]);
  } finally {
    clearInterval(timer);
  }
  onProgress?.(sent.bytes, received.bytes);
  return { sent: sent.finish(), received: received.finish() };
}

async function send(socket, seed, bytes, sent) {
  const stream = new SeededStream(seed);
  while (sent.bytes < bytes) {
    const piece = stream.next(bytes - sent.bytes);
    sent.add(piece);
    if (!socket.write(piece)) await once(socket, 'drain');
  }
  socket.end();
}
