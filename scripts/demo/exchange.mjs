// Sends and receives on one connection, and hashes both directions.
import { once } from 'node:events';
import { finished } from 'node:stream/promises';
import { newHash, SeededStream } from './data.mjs';

/** The count and hash of the bytes in one direction. */
class Tally {
  bytes = 0;
  #hash = newHash();

  add(chunk) {
    this.bytes += chunk.length;
    this.#hash.update(chunk);
  }

  finish() {
    return { bytes: this.bytes, sha256: this.#hash.digest('hex') };
  }
}

/** Sends `bytes` bytes, and at the same time receives until the peer ends. */
export async function exchange(socket, seed, bytes, onProgress) {
  const sent = new Tally();
  const received = new Tally();
  const timer = setInterval(() => onProgress?.(sent.bytes, received.bytes), 100);
  socket.on('data', (chunk) => received.add(chunk));
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
    const chunk = stream.next(bytes - sent.bytes);
    sent.add(chunk);
    if (!socket.write(chunk)) await once(socket, 'drain');
  }
  socket.end();
}
