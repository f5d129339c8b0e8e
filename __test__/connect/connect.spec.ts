// connect(): what it accepts as a target, and what a connection reports of itself.
import { once } from 'node:events';
import type { AddressInfo, Socket } from 'node:net';
import { createServer } from 'node:http';

import test from 'ava';
import { connect, copy, relay, type Target } from 'fdsplice';

import { openDescriptors } from '../helpers/descriptors.js';
import { coreTest, isNative } from '../helpers/engine.js';
import { nothingIsLeft } from '../helpers/left.js';
import { directory, serve } from '../helpers/local-peers.js';
import { Peer } from '../helpers/peer.js';
import { within } from '../helpers/wait.js';
import { accepted, endingAt, made } from './made.js';

nothingIsLeft(test, 'behind each test');

test.serial('a target is text or an object, with an IPv4 address, an IPv6 address or a name', async (t) => {
  const { port } = await serve(t, () => undefined, { port: 0, host: '127.0.0.1' });
  const { port: port6 } = await serve(t, () => undefined, { port: 0, host: '::1' });
  const table: [Target, text: string, family: string][] = [
    [`127.0.0.1:${port}`, `127.0.0.1:${port}`, 'IPv4'],
    [{ host: '127.0.0.1', port }, `127.0.0.1:${port}`, 'IPv4'],
    [`[::1]:${port6}`, `[::1]:${port6}`, 'IPv6'],
    [{ host: '::1', port: port6 }, `[::1]:${port6}`, 'IPv6'],
    [{ host: '[::1]', port: port6 }, `[::1]:${port6}`, 'IPv6'],
    [`localhost:${port}`, `localhost:${port}`, 'IPv4'],
    [{ host: 'localhost', port }, `localhost:${port}`, 'IPv4'],
  ];
  for (const [target, text, family] of table) {
    const connection = await connect(target);
    t.is(connection.target, text);
    t.like(connection.remoteAddress, { family, port: family === 'IPv4' ? port : port6 });
    connection.close();
  }
});

test.serial('a connection reports its addresses and the time that it took', async (t) => {
  const { server, port } = await serve(t, () => undefined);
  const [[socket], connection] = await Promise.all([
    once(server, 'connection') as Promise<[Socket]>,
    connect(`127.0.0.1:${port}`),
  ]);
  t.deepEqual(connection.remoteAddress, { address: '127.0.0.1', port, family: 'IPv4' });
  t.deepEqual(connection.localAddress, { address: '127.0.0.1', port: socket.remotePort, family: 'IPv4' });
  t.true(connection.connectMs > 0 && connection.connectMs < 20_000, String(connection.connectMs));
  connection.close();
  t.deepEqual(connection.remoteAddress, { address: '127.0.0.1', port, family: 'IPv4' });
});

test.serial('a Unix socket is a target in text and as an object, and its address is its path', async (t) => {
  const path = `${await directory(t)}/socket`;
  await serve(t, () => undefined, { path });
  for (const target of [`unix:${path}`, { path }]) {
    const connection = await connect(target);
    t.is(connection.target, `unix:${path}`);
    t.deepEqual(connection.remoteAddress, { path });
    t.deepEqual(connection.localAddress, { path: '' });
    connection.close();
  }
});

test.serial('the connection comes from localAddress, of the options before that of the target', async (t) => {
  const { port } = await serve(t, () => undefined);
  const target = { host: '127.0.0.1', port, localAddress: '127.0.0.8' };
  for (const [options, address] of [
    [undefined, '127.0.0.8'],
    [{ localAddress: '127.0.0.9' }, '127.0.0.9'],
  ] as const) {
    const connection = await connect(target, options);
    t.like(connection.localAddress, { address });
    connection.close();
  }
  const byName = await connect(`localhost:${port}`, { localAddress: '127.0.0.9' });
  t.like(byName.localAddress, { address: '127.0.0.9' });
  byName.close();
});

for (const transport of ['tcp', 'unix'] as const) {
  test.serial(`close() ends a ${transport} connection, and a second call does nothing`, async (t) => {
    const peer = Peer.start(t);
    const { connection, far } = await made(t, peer, transport);
    connection.close();
    connection.close();
    connection.reset();
    t.is(await endingAt(peer, far), 'eof');
  });
}

test.serial('reset() resets a connection', async (t) => {
  const peer = Peer.start(t);
  const { connection, far } = await made(t, peer);
  connection.reset();
  t.is(await endingAt(peer, far), 'reset');
});

test.serial('an async disposal closes a connection, and waits for the transfer that uses it', async (t) => {
  const peer = Peer.start(t);
  const { connection, far } = await made(t, peer);
  const { socket, client } = await accepted(t, peer);
  let isSettled = false;
  const transfer = relay(socket, connection, { reject: false }).finally(() => (isSettled = true));
  await connection[Symbol.asyncDispose]();
  t.true(isSettled);
  t.like((await transfer).error, { code: 'ABORT_ERR', side: 'b' });
  t.is(await endingAt(peer, far), 'reset');
  t.is(await endingAt(peer, client), 'reset');

  const other = await made(t, peer);
  await other.connection[Symbol.asyncDispose]();
  t.is(await endingAt(peer, other.far), 'eof');
});

coreTest.serial('a connection is one descriptor', async (t) => {
  const sockets = () => [...openDescriptors().values()].filter((name) => name.startsWith('socket:')).length;
  const peer = Peer.start(t);
  const { listener, port } = await peer.listen({ port: 0 });
  const before = sockets();
  const connection = await connect(`127.0.0.1:${port}`);
  t.is(sockets() - before, 1);
  await peer.accept(listener);
  connection.close();
  t.is(sockets(), before);
});

test.serial('bytes that a target sends first wait in the kernel for the first transfer', async (t) => {
  const peer = Peer.start(t);
  const { connection, far } = await made(t, peer);
  await peer.writeText(far, 'a greeting');
  await peer.shutdown(far);
  const server = createServer((_request, response) => {
    response.setHeader('content-length', 10);
    void copy(connection, response, { endDestination: true }).then(({ engine }) => {
      t.is(engine, isNative ? 'native' : 'stream');
    });
  }).listen(0, '127.0.0.1');
  t.teardown(() => void server.closeAllConnections());
  t.teardown(() => void server.close());
  await once(server, 'listening');
  const answer = await within(
    20_000,
    'the answer',
    fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`, {
      headers: { connection: 'close' },
    }),
  );
  t.is(await answer.text(), 'a greeting');
});
