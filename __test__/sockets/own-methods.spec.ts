// Sockets whose class or owner overrides methods to read or to write: their bytes go through those methods, on streams.
import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';

import test, { type ExecutionContext } from 'ava';
import { copy, relay, sendFile, type Transfer } from 'fdsplice';

import { ended, nodeArguments, started } from '../helpers/copy-child.js';
import { opened, sample } from '../helpers/copy-files.js';
import { engine } from '../helpers/engine.js';
import { nothingIsLeft } from '../helpers/left.js';
import { pair } from '../helpers/pair.js';
import { type Conn, Peer } from '../helpers/peer.js';
import { deferred, within } from '../helpers/wait.js';
import { exchange, upper } from './exchange.js';

nothingIsLeft(test, 'behind all tests');

type Write = (chunk: unknown, ...rest: unknown[]) => boolean;

/** Connects a socket to the peer, and returns the peer's end. */
async function connected(t: ExecutionContext, peer: Peer, socket: net.Socket): Promise<Conn> {
  const { listener, port } = await peer.listen({ port: 0 });
  socket.connect({ port, host: '127.0.0.1' });
  t.teardown(() => socket.destroy());
  const [{ conn }] = await Promise.all([peer.accept(listener), once(socket, 'connect')]);
  // Node shadows the write of the class on a connecting socket, but not on an accepted one.
  Reflect.deleteProperty(socket, 'write');
  return conn;
}

class OwnWrite extends net.Socket {
  override write(chunk: unknown, ...rest: unknown[]): boolean {
    return (super.write as Write)(upper(chunk), ...rest);
  }
}

class OwnInnerWrite extends net.Socket {
  override _write(chunk: unknown, _encoding: BufferEncoding, callback: () => void): void {
    super._write(upper(chunk), 'buffer' as BufferEncoding, callback);
  }

  override _writev(chunks: { chunk: unknown }[], callback: () => void): void {
    const all = Buffer.concat(chunks.map(({ chunk }) => upper(chunk)));
    super._write(all, 'buffer' as BufferEncoding, callback);
  }
}

class OwnRead extends net.Socket {
  override read(size?: number): unknown {
    const chunk: unknown = super.read(size);
    return chunk === null ? null : upper(chunk);
  }
}

class OwnPush extends net.Socket {
  override push(chunk: unknown): boolean {
    return super.push(chunk === null ? null : upper(chunk));
  }
}

for (const [method, Class, own] of [
  ['write', OwnWrite, 'writes'],
  ['_write', OwnInnerWrite, 'writes'],
  ['read', OwnRead, 'reads'],
  ['push', OwnPush, 'reads'],
] as const) {
  test(`a socket whose class overrides ${method} is relayed through that method, on streams`, async (t) => {
    const peer = Peer.start(t);
    const { a, client } = await pair(t, peer);
    const b = new Class();
    const origin = await connected(t, peer, b);
    const transfer = relay(a, b);
    const expected = own === 'writes' ? { toOrigin: 'TO ORIGIN' } : { toClient: 'TO CLIENT' };
    await exchange(t, peer, { client, origin }, expected);
    t.like(await within(30_000, 'the relay ends', transfer), { tx: 9, rx: 9, engine: 'stream' });
  });

  test(`a copy that needs an overridden ${method} runs on streams, and one in the other direction does not`, async (t) => {
    const peer = Peer.start(t);
    const { a, client } = await pair(t, peer);
    const b = new Class({ allowHalfOpen: true });
    const origin = await connected(t, peer, b);
    const there = copy(a, b, { length: 9 });
    const back = copy(b, a, { length: 9 });
    await peer.writeText(client, 'to origin');
    await peer.writeText(origin, 'to client');
    t.is(await peer.readText(origin, 9), own === 'writes' ? 'TO ORIGIN' : 'to origin');
    t.is(await peer.readText(client, 9), own === 'reads' ? 'TO CLIENT' : 'to client');
    t.like(await there, { tx: 9, engine: own === 'writes' ? 'stream' : engine });
    t.like(await back, { tx: 9, engine: own === 'reads' ? 'stream' : engine });
  });
}

/** Replaces a method on one socket alone, by one that sees the bytes and turns them into capitals. */
const REPLACED: Record<string, (socket: net.Socket) => void> = {
  write: (socket) => {
    const write = socket.write.bind(socket) as Write;
    socket.write = (chunk: unknown, ...rest: unknown[]) => write(upper(chunk), ...rest);
  },
  _write: (socket) => {
    const _write = Reflect.get(net.Socket.prototype, '_write') as (...args: unknown[]) => void;
    socket._write = (chunk, _encoding, callback) =>
      _write.call(socket, upper(chunk), 'buffer' as BufferEncoding, callback);
    Object.assign(socket, { _writev: null });
  },
  read: (socket) => {
    const read = socket.read.bind(socket) as (size?: number) => unknown;
    socket.read = (size) => {
      const chunk = read(size);
      return chunk === null ? null : upper(chunk);
    };
  },
  push: (socket) => {
    const push = socket.push.bind(socket);
    socket.push = (chunk: unknown) => push(chunk === null ? null : upper(chunk));
  },
};

for (const [method, replace] of Object.entries(REPLACED)) {
  const isWrite = method.endsWith('write');

  test(`a socket whose ${method} was replaced on it alone is relayed and copied through that method`, async (t) => {
    const peer = Peer.start(t);
    const { a, b, client, origin } = await pair(t, peer);
    replace(b);
    const copying = isWrite ? copy(a, b, { length: 5 }) : copy(b, a, { length: 5 });
    await peer.writeText(isWrite ? client : origin, 'first');
    t.is(await peer.readText(isWrite ? origin : client, 5), 'FIRST');
    t.like(await within(30_000, 'the copy ends', copying), { tx: 5, engine: 'stream' });
    const transfer = relay(a, b);
    const expected = isWrite ? { toOrigin: 'TO ORIGIN' } : { toClient: 'TO CLIENT' };
    await exchange(t, peer, { client, origin }, expected);
    t.like(await within(30_000, 'the relay ends', transfer), { tx: 9, rx: 9, engine: 'stream' });
  });
}

test('a file is sent through a write that was replaced on its socket alone', async (t) => {
  const peer = Peer.start(t);
  const { path, bytes } = sample(t, 100_000);
  const { a, client } = await pair(t, peer);
  let seen = 0;
  const write = a.write.bind(a) as Write;
  a.write = (chunk: Buffer, ...rest: unknown[]) => {
    seen += chunk.length;
    return write(chunk, ...rest);
  };
  const [result] = await Promise.all([sendFile(path, a), peer.read(client, bytes.length)]);
  t.like(result, { tx: bytes.length, engine: 'stream' });
  t.is(seen, bytes.length);
});

test('a socket that Node itself has ended at the end of its input still goes through the core', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer);
  const started = deferred<{ transfer: Transfer }>();
  a.resume().on('end', () => {
    t.true(Object.hasOwn(a, 'write'));
    started.resolve({ transfer: relay(a, b) });
  });
  await peer.shutdown(client);
  const { transfer } = await started.promise;
  await peer.shutdown(origin);
  t.like(await within(30_000, 'the relay ends', transfer), { tx: 0, rx: 0, engine });
});

test.serial('a write that was replaced for all sockets does not see the bytes of the core', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer);
  const write = Reflect.get(net.Socket.prototype, 'write') as Write;
  t.teardown(() => Object.assign(net.Socket.prototype, { write }));
  net.Socket.prototype.write = function (this: net.Socket, ...args: unknown[]) {
    return write.apply(this, args as [unknown]);
  };
  const transfer = relay(a, b);
  await exchange(t, peer, { client, origin });
  t.like(await within(30_000, 'the relay ends', transfer), { tx: 9, rx: 9, engine });
});

test('a file is sent through the overridden _write of a connection passed to an HTTP server', async (t) => {
  const peer = Peer.start(t);
  const { path, bytes } = sample(t, 30);
  const outcome = deferred<unknown>();
  const server = http.createServer((_request, response) => {
    outcome.resolve(sendFile(path, response));
  });
  const socket = new OwnInnerWrite();
  const client = await connected(t, peer, socket);
  server.emit('connection', socket);
  await peer.writeText(client, 'GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
  const answer = await within(30_000, 'the answer', peer.readToEnd(client));
  t.true(answer.bytes > bytes.length);
  t.like(await outcome.promise, { tx: 30, engine: 'stream', error: null });
});

for (const kind of ['a pipe', 'a file'] as const) {
  test(`a write that was replaced on process.stdout sees the bytes of a copy, with ${kind} behind it`, async (t) => {
    const { path, bytes } = sample(t, 100_000);
    const program = `
      import { openSync } from 'node:fs';
      import { copy } from 'fdsplice';
      const write = process.stdout.write.bind(process.stdout);
      let seen = 0;
      process.stdout.write = (chunk, ...rest) => {
        seen += chunk.length;
        return write(chunk, ...rest);
      };
      const { tx, engine } = await copy(openSync(${JSON.stringify(path)}), process.stdout);
      console.error(JSON.stringify({ tx, engine, seen }));
    `;
    const out = kind === 'a file' ? opened(t, `${path}.out`, 'w') : 'pipe';
    const { stderr } = await ended(
      started(t, process.execPath, nodeArguments(program), ['ignore', out, 'pipe']),
    );
    t.deepEqual(JSON.parse(stderr), { tx: bytes.length, engine: 'stream', seen: bytes.length });
  });
}
