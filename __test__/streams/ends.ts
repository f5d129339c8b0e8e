// Streams without a descriptor for the specs of the stream engine: both ends of a TLS session, a pair of duplex streams, a
// collecting sink.
import { once } from 'node:events';
import type net from 'node:net';
import { type AddressInfo } from 'node:net';
import { Duplex, type Readable, Writable } from 'node:stream';
import tls from 'node:tls';

import type { ExecutionContext } from 'ava';

import { identity, trust } from '../helpers/tls.js';
import { within } from '../helpers/wait.js';

export async function listening(t: ExecutionContext, server: net.Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  t.teardown(() => void server.close());
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

export interface Session {
  /** The end at the gateway. */
  inner: tls.TLSSocket;
  /** The end at the client. */
  outer: tls.TLSSocket;
}

/** Both ends of a TLS session; an end of input on one does not end the other. */
export async function session(t: ExecutionContext): Promise<Session> {
  const server = tls.createServer({ ...identity, allowHalfOpen: true });
  const port = await listening(t, server);
  const outer = tls.connect({
    port,
    host: '127.0.0.1',
    allowHalfOpen: true,
    ...trust,
  } as tls.ConnectionOptions);
  const [[inner]] = (await Promise.all([once(server, 'secureConnection'), once(outer, 'secureConnect')])) as [
    [tls.TLSSocket],
    unknown,
  ];
  for (const socket of [inner, outer]) {
    t.teardown(() => socket.destroy());
    socket.on('error', () => {});
  }
  return { inner, outer };
}

/** All bytes of a stream, which is not destroyed: its other direction may still be open. */
export async function all(stream: Readable): Promise<Buffer> {
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  await within(30_000, 'a stream ends', once(stream, 'end'));
  return Buffer.concat(chunks);
}

/** A writable stream that collects its input, one chunk per turn of the event loop. */
export function sink(options: { highWaterMark?: number } = {}) {
  const chunks: Buffer[] = [];
  const stream = new Writable({
    ...options,
    write(chunk: Buffer, _encoding, callback) {
      chunks.push(Buffer.from(chunk));
      setImmediate(callback);
    },
  });
  return { stream, bytes: () => Buffer.concat(chunks) };
}

/** One of two streams; each reads the bytes written to the other. */
class Half extends Duplex {
  other: Half = this;
  #taken = () => {};

  constructor() {
    super({ allowHalfOpen: true });
  }

  override _read(): void {
    this.#taken();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: () => void): void {
    this.other.#taken = callback;
    this.other.push(chunk);
  }

  override _final(callback: () => void): void {
    this.other.push(null);
    callback();
  }
}

export function duplexPair(): [Duplex, Duplex] {
  const [one, other] = [new Half(), new Half()];
  [one.other, other.other] = [other, one];
  return [one, other];
}
