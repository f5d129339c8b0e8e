// Objects that only imitate net.Socket: their bytes go through their own methods, on streams, and a descriptor found in
// them is never touched.
import { once } from 'node:events';
import http2 from 'node:http2';
import net, { type AddressInfo } from 'node:net';
import { Duplex, Readable } from 'node:stream';

import test, { type ExecutionContext } from 'ava';
import { copy, relay, sendFile } from 'fdsplice';

import { sample } from '../helpers/copy-files.js';
import { coreTest } from '../helpers/engine.js';
import { nothingIsLeft } from '../helpers/left.js';
import { pair } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';
import { deferred, within } from '../helpers/wait.js';
import { exchange, upper } from './exchange.js';

nothingIsLeft(test, 'behind all tests');

/** A Proxy around a socket that turns written and read bytes into capitals. */
const proxied = (socket: net.Socket) =>
  new Proxy(socket, {
    get(target, key, receiver) {
      if (key === 'write') return (chunk: unknown, ...rest: []) => target.write(upper(chunk), ...rest);
      if (key === 'read') {
        return (size?: number) => {
          const chunk = target.read(size) as Buffer | null;
          return chunk === null ? null : upper(chunk);
        };
      }
      return Reflect.get(target, key, receiver) as unknown;
    },
  });

/** An object that inherits from a socket and writes in capitals. */
const derived = (socket: net.Socket) =>
  Object.create(socket, {
    write: {
      value: (chunk: unknown, ...rest: []) => socket.write(upper(chunk), ...rest),
      writable: true,
      configurable: true,
    },
  }) as net.Socket;

test('a Proxy around a socket is relayed through its own traps, on streams', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer);
  const transfer = relay(a, proxied(b));
  await exchange(t, peer, { client, origin }, { toOrigin: 'TO ORIGIN', toClient: 'TO CLIENT' });
  t.like(await within(30_000, 'the relay ends', transfer), { tx: 9, rx: 9, engine: 'stream', error: null });
  t.true(b.destroyed);
});

test('a Proxy that changes nothing is relayed and copied like its socket, on streams', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer);
  const copying = copy(new Proxy(a, {}), new Proxy(b, {}), { length: 5 });
  await peer.writeText(client, 'first');
  t.like(await within(30_000, 'the copy ends', copying), { tx: 5, engine: 'stream' });
  t.is(await peer.readText(origin, 5), 'first');
  const transfer = relay(new Proxy(a, {}), new Proxy(b, {}));
  await exchange(t, peer, { client, origin });
  t.like(await within(30_000, 'the relay ends', transfer), { tx: 9, rx: 9, engine: 'stream' });
});

test('an abort of a relay with a Proxy resets both connections', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer);
  const transfer = relay(proxied(a), b, { reject: false });
  await peer.writeText(client, 'hello');
  t.is(await peer.readText(origin, 5), 'HELLO');
  transfer.abort();
  t.is((await within(30_000, 'the client sees the end', peer.readToEnd(client))).end, 'reset');
  t.is((await within(30_000, 'the origin sees the end', peer.readToEnd(origin))).end, 'reset');
  t.is((await transfer).error?.code, 'ABORT_ERR');
});

test('an object that inherits from a socket is written to through its own write, on streams', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer, 'tcp', { server: { allowHalfOpen: true } });
  const copying = copy(a, derived(b));
  await peer.writeText(client, 'hello');
  await peer.shutdown(client);
  t.like(await within(30_000, 'the copy ends', copying), { tx: 5, engine: 'stream' });
  t.is(await peer.readText(origin, 5), 'HELLO');
});

for (const [other, view] of Object.entries({
  'a Proxy around it': (socket: net.Socket) => new Proxy(socket, {}),
  'an object that inherits from it': (socket: net.Socket) => Object.create(socket) as net.Socket,
})) {
  const sameSocket = { instanceOf: TypeError, code: 'ERR_INVALID_ARG_VALUE', message: /the same socket/ };
  const inUse = { instanceOf: TypeError, code: 'ERR_INVALID_ARG_VALUE', message: /no other transfer/ };

  test(`a socket and ${other} are one socket: a transfer between them is rejected`, async (t) => {
    const peer = Peer.start(t);
    const { a, client, b } = await pair(t, peer);
    const seen = view(a);
    for (const [one, another] of [
      [a, seen],
      [seen, a],
      [seen, view(a)],
    ] as const) {
      await t.throwsAsync(relay(one, another, { reject: false }), sameSocket);
      await t.throwsAsync(copy(one, another, { reject: false }), sameSocket);
    }
    const connecting = net.connect((b.address() as AddressInfo).port, '127.0.0.1').on('error', () => {});
    await t.throwsAsync(relay(connecting, view(connecting), { reject: false }), sameSocket);
    connecting.destroy();
    t.false(a.destroyed);
    await peer.writeText(client, 'mine');
    t.is(String((await once(a, 'data'))[0]), 'mine');
  });

  test(`a socket that a transfer uses cannot be used through ${other}`, async (t) => {
    const peer = Peer.start(t);
    const { a, b, client, origin } = await pair(t, peer);
    const transfer = relay(a, b);
    await t.throwsAsync(copy(view(a), new Duplex(inner)), inUse);
    await t.throwsAsync(copy(new Duplex(inner), view(b)), inUse);
    await t.throwsAsync(relay(view(a), new Duplex(inner)), inUse);
    await exchange(t, peer, { client, origin });
    t.like(await within(30_000, 'the relay ends', transfer), { tx: 9, rx: 9, error: null });
  });
}

coreTest('a Proxy around a socket and the number of its descriptor are one socket', async (t) => {
  const peer = Peer.start(t);
  const { a } = await pair(t, peer);
  const { fd } = (a as unknown as { _handle: { fd: number } })._handle;
  const rejected = { instanceOf: TypeError, code: 'ERR_INVALID_ARG_VALUE', message: /the same socket/ };
  await t.throwsAsync(relay(new Proxy(a, {}), fd, { reject: false }), rejected);
  await t.throwsAsync(copy(fd, new Proxy(a, {}), { reject: false }), rejected);
  t.false(a.destroyed);
});

/** A connection of another owner, whose descriptor number a mock contains. */
async function foreign(t: ExecutionContext, peer: Peer) {
  const { a, b, client, origin } = await pair(t, peer);
  const { fd } = (a as unknown as { _handle: { fd: number } })._handle;
  const isUntouched = async () => {
    t.false(a.destroyed);
    // No byte was taken from its owner, and none was added.
    await peer.writeText(client, 'mine');
    const [chunk] = (await within(30_000, 'the owner receives the bytes', once(a, 'data'))) as [Buffer];
    t.is(String(chunk), 'mine');
    a.write('yours');
    t.is(await peer.readText(client, 5), 'yours');
    t.deepEqual(await peer.counts(client), { sent: 4, received: 5 });
  };
  t.teardown(() => b.destroy());
  return { fd, isUntouched, origin };
}

/** Methods of a stream that echoes in capitals, without a socket. */
const inner = {
  read(this: Duplex) {},
  write(this: Duplex, chunk: unknown, _encoding: BufferEncoding, callback: () => void) {
    this.push(upper(chunk));
    callback();
  },
  final(this: Duplex, callback: () => void) {
    this.push(null);
    callback();
  },
};

class MockSocket extends net.Socket {
  override _read(): void {}

  override _write(chunk: unknown, encoding: BufferEncoding, callback: () => void): void {
    inner.write.call(this, chunk, encoding, callback);
  }

  override _final(callback: () => void): void {
    inner.final.call(this, callback);
  }

  override connecting = false;
}

/** Has the name of Node's own handle class. */
class TCP {
  readonly fd: number;
  reading = false;

  constructor(fd: number) {
    this.fd = fd;
  }

  close(done?: () => void): void {
    if (done !== undefined) setImmediate(done);
  }

  readStart(): number {
    return 0;
  }

  readStop(): number {
    return 0;
  }
}

const withHandle = (stream: Duplex, handle: unknown): Duplex => Object.assign(stream, { _handle: handle });

for (const [kind, mock] of [
  ['a Duplex with a descriptor in its _handle', (fd: number) => withHandle(new Duplex(inner), { fd })],
  ['a Duplex with a handle called TCP', (fd: number) => withHandle(new Duplex(inner), new TCP(fd))],
  ['a net.Socket without any handle', () => new MockSocket()],
  ['a net.Socket with a handle called TCP', (fd: number) => withHandle(new MockSocket(), new TCP(fd))],
  [
    'an object with the prototype of net.Socket',
    (fd: number) => {
      const stream = withHandle(new Duplex(inner), new TCP(fd));
      // Has the methods of Duplex, and passes `instanceof net.Socket`.
      const prototype = Object.create(net.Socket.prototype, {
        ...Object.getOwnPropertyDescriptors(Readable.prototype),
        ...Object.getOwnPropertyDescriptors(Duplex.prototype),
      }) as object;
      return Object.setPrototypeOf(stream, prototype) as Duplex;
    },
  ],
] as const) {
  test(`a mock, ${kind}, is relayed on streams, and no foreign descriptor is touched`, async (t) => {
    const peer = Peer.start(t);
    const { fd, isUntouched } = await foreign(t, peer);
    const { a, client } = await pair(t, peer);
    const stream = mock(fd);
    const transfer = relay(a, stream);
    await peer.writeText(client, 'hello');
    t.is(await within(30_000, 'the echo', peer.readText(client, 5)), 'HELLO');
    await peer.shutdown(client);
    t.like(await within(30_000, 'the relay ends', transfer), { tx: 5, rx: 5, engine: 'stream', error: null });
    t.true(stream.destroyed);
    await isUntouched();
  });
}

test('a socket with a foreign handle that has a number fails the relay, not the process', async (t) => {
  const peer = Peer.start(t);
  const { fd, isUntouched } = await foreign(t, peer);
  const { a, client } = await pair(t, peer);
  const transfer = relay(a, withHandle(new net.Socket(), new TCP(fd)), { reject: false });
  await peer.writeText(client, 'hello');
  t.like(await within(30_000, 'the relay ends', transfer), { tx: 0, rx: 0, engine: 'stream' });
  t.is((await transfer).error?.side, 'b');
  t.not((await within(30_000, 'the client sees the end', peer.readToEnd(client))).end, 'eof');
  await isUntouched();
});

test('the socket of an HTTP/2 session is rejected, and the session stays usable', async (t) => {
  const server = http2.createServer();
  const sessions = deferred<http2.ServerHttp2Session>();
  server.once('session', sessions.resolve);
  const compat = deferred<net.Socket>();
  server.on('request', (request: http2.Http2ServerRequest, response: http2.Http2ServerResponse) => {
    compat.resolve(request.socket);
    response.end('answer');
  });
  server.listen(0, '127.0.0.1');
  t.teardown(() => void server.close());
  await once(server, 'listening');
  const client = http2.connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  t.teardown(() => client.destroy());
  const answer = async () => {
    const chunks: Buffer[] = [];
    const stream = client.request();
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    await within(30_000, 'an answer', once(stream, 'close'));
    return String(Buffer.concat(chunks));
  };
  const first = answer();
  const { path } = sample(t, 10);
  const rejected = { instanceOf: TypeError, code: 'ERR_INVALID_ARG_VALUE', message: /HTTP\/2 session/ };
  for (const socket of [(await sessions.promise).socket, client.socket, await compat.promise]) {
    const other = new Duplex(inner);
    await t.throwsAsync(relay(socket, other, { reject: false }), rejected);
    await t.throwsAsync(copy(socket, other, { reject: false }), rejected);
    await t.throwsAsync(copy(other, socket, { reject: false }), rejected);
    await t.throwsAsync(sendFile(path, socket, { reject: false }), rejected);
    t.false(other.destroyed);
  }
  t.is(await first, 'answer');
  t.is(await answer(), 'answer');
});
