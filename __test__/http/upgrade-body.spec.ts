// An HTTP upgrade whose request has a body. Up to Node 24 the server emits the socket, with the body as its first bytes. From
// Node 26 the body belongs to the request, and while it is incomplete the server emits a stream that only imitates a socket
// and starts after the body.
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import http, { type IncomingMessage } from 'node:http';
import net, { type AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';

import test, { type ExecutionContext } from 'ava';
import { copy, relay, type TrafficResult } from 'fdsplice';

import { MiB, sha256 } from '../helpers/copy-files.js';
import { engine } from '../helpers/engine.js';
import { nothingIsLeft } from '../helpers/left.js';
import { type Conn, Peer } from '../helpers/peer.js';
import { deferred, within } from '../helpers/wait.js';

nothingIsLeft(test, 'behind all tests');

const upgrade = (length: number) =>
  `POST / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: raw\r\nContent-Length: ${length}\r\n\r\n`;

interface Upgraded {
  request: IncomingMessage;
  /** A `net.Socket`, or a stream that imitates one. */
  socket: Duplex;
  head: Buffer;
  upstream: net.Socket;
}

interface Gateway {
  peer: Peer;
  /** A connection on which nothing was sent yet. */
  client: net.Socket;
  origin: () => Promise<Conn>;
  upgraded: Promise<Upgraded>;
}

/** A gateway that connects to the peer for an upgrade, and a client of it. */
async function gateway(t: ExecutionContext): Promise<Gateway> {
  const peer = Peer.start(t);
  const { listener, port } = await peer.listen({ port: 0 });
  const server = http.createServer();
  t.teardown(() => void server.close());
  const { promise: upgraded, resolve } = deferred<Upgraded>();
  server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    const upstream = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    t.teardown(() => void [socket.destroy(), upstream.destroy()]);
    resolve({ request, socket, head, upstream });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const client = net.connect({
    port: (server.address() as AddressInfo).port,
    host: '127.0.0.1',
    allowHalfOpen: true,
  });
  t.teardown(() => client.destroy());
  await once(client, 'connect');
  const origin = async () => (await within(30_000, 'the gateway connects', peer.accept(listener))).conn;
  return { peer, client, origin, upgraded };
}

const isSocket = ({ socket }: Upgraded) => socket instanceof net.Socket;

/** The engine that serves the socket of an upgrade. */
const engineOf = (upgraded: Upgraded) => (isSocket(upgraded) ? engine : 'stream');

/** How the client's connection ends: `end`, or the code of an error. */
function ending(socket: net.Socket): Promise<string> {
  return new Promise((resolve) => {
    socket.once('end', () => resolve('end')).resume();
    socket.once('error', ({ code }: NodeJS.ErrnoException) => resolve(code ?? 'error'));
  });
}

for (const [arrival, size, isWithRequest] of [
  ['that arrives with it', 20, true],
  ['sent with it but too long to arrive at once', 3 * MiB, true],
  ['that arrives in parts', 3 * MiB, false],
] as const) {
  test(`an upgrade request with a body ${arrival} reaches the origin once and in order, and so do the bytes after it`, async (t) => {
    const { peer, client, origin, upgraded } = await gateway(t);
    const body = randomBytes(size);
    const behind = randomBytes(2 * MiB);
    if (isWithRequest) {
      client.write(Buffer.concat([Buffer.from(upgrade(body.length)), body, behind]));
    } else {
      client.write(upgrade(body.length));
      client.write(body.subarray(0, 100_000));
    }
    const emitted = await within(30_000, 'the upgrade comes', upgraded);
    const { request, socket, head, upstream } = emitted;
    const served = (async () => {
      // Copies nothing if the body is part of the emitted socket.
      const { tx } = await copy(request, upstream);
      return { tx, relayed: await relay(socket, upstream, { headFromA: head }) };
    })();
    if (!isWithRequest) {
      // The last bytes of the body and the first after it, in one write.
      client.write(Buffer.concat([body.subarray(100_000), behind.subarray(0, 100)]));
      client.write(behind.subarray(100));
    }
    const conn = await origin();
    client.end();
    t.deepEqual(await within(30_000, 'every byte arrives', peer.readToEnd(conn)), {
      bytes: body.length + behind.length,
      sha256: sha256(body, behind),
      end: 'eof',
    });
    const [answer] = await Promise.all([
      within(30_000, 'an answer', all(client)),
      peer.writeText(conn, 'answer').then(() => peer.shutdown(conn)),
    ]);
    t.is(answer, 'answer');
    const { tx, relayed } = await within(30_000, 'the relay ends', served);
    t.true(isSocket(emitted) ? [0, body.length].includes(tx) : tx === body.length, `${tx}`);
    t.like(relayed, {
      tx: body.length + behind.length - tx,
      rx: 6,
      engine: engineOf(emitted),
      error: null,
    });
  });
}

test('bytes after the unread body of an upgrade request are relayed completely', async (t) => {
  const { peer, client, origin, upgraded } = await gateway(t);
  client.write(`${upgrade(10)}01234`);
  const emitted = await within(30_000, 'the upgrade comes', upgraded);
  const { socket, head, upstream } = emitted;
  const relayed = relay(socket, upstream, { headFromA: head });
  client.end('56789behind it');
  const conn = await origin();
  // Node discards the unread body of the request.
  const expected = isSocket(emitted) ? '0123456789behind it' : 'behind it';
  t.is(await within(30_000, 'the bytes arrive', peer.readText(conn, expected.length)), expected);
  t.is((await within(30_000, 'the end of input', peer.readToEnd(conn))).end, 'eof');
  await peer.shutdown(conn);
  t.like(await relayed, { tx: expected.length, rx: 0, engine: engineOf(emitted) });
});

for (const [failure, fail] of [
  ['an abort', (_peer: Peer, _origin: Conn, transfer: ReturnType<typeof relay>) => transfer.abort()],
  ['a reset of the origin', (peer: Peer, origin: Conn) => void peer.reset(origin)],
] as const) {
  test(`the client of an upgrade with a body sees a reset after ${failure}, never a clean end`, async (t) => {
    const { peer, client, origin, upgraded } = await gateway(t);
    client.write(`${upgrade(4)}bo`);
    const { request, socket, head, upstream } = await within(30_000, 'the upgrade comes', upgraded);
    client.write('dybehind');
    await copy(request, upstream);
    const transfer = relay(socket, upstream, { headFromA: head, reject: false });
    const conn = await origin();
    t.is(await within(30_000, 'the bytes arrive', peer.readText(conn, 10)), 'bodybehind');
    const end = ending(client);
    fail(peer, conn, transfer);
    t.is(await within(30_000, 'the client sees the end', end), 'ECONNRESET');
    const { error } = await within<TrafficResult>(30_000, 'the relay ends', transfer);
    t.not(error, null);
  });
}

async function all(stream: Duplex): Promise<string> {
  let text = '';
  stream.on('data', (chunk: Buffer) => (text += String(chunk)));
  await once(stream, 'end');
  return text;
}
