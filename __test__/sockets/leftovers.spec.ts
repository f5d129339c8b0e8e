// Bytes around the start of a relay: heads, bytes that Node has read or still has to write, corked writes, connecting sockets.
// All must arrive once, in order and before relayed bytes.
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';
import net, { type AddressInfo } from 'node:net';

import test from 'ava';
import { relay, type Transfer } from 'fdsplice';

import { nothingIsLeft } from '../helpers/left.js';
import { pair } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';
import { until } from '../helpers/wait.js';

nothingIsLeft(test, 'behind all tests');

const MiB = 1 << 20;

const sha256 = (...parts: (string | Buffer)[]): string =>
  createHash('sha256')
    .update(Buffer.concat(parts.map((part) => Buffer.from(part))))
    .digest('hex');

for (const transport of ['tcp', 'unix'] as const) {
  test(`${transport}: heads are sent first on both sides and counted`, async (t) => {
    const peer = Peer.start(t);
    const { a, b, client, origin } = await pair(t, peer, transport);
    const transfer = relay(a, b, {
      headFromA: Buffer.from('from a, '),
      headFromB: new TextEncoder().encode('from b, '),
    });
    await peer.writeText(client, 'to b');
    await peer.writeText(origin, 'to a');
    t.is(await peer.readText(origin, 12), 'from a, to b');
    t.is(await peer.readText(client, 12), 'from b, to a');
    await peer.shutdown(client);
    await peer.shutdown(origin);
    t.like(await transfer, { tx: 12, rx: 12, total: 24 });
  });

  test(`${transport}: head, buffered bytes and later bytes are sent in order`, async (t) => {
    const peer = Peer.start(t);
    const { a, b, client, origin } = await pair(t, peer, transport);
    await peer.writeText(client, 'buffered, ');
    await peer.writeText(origin, 'BUFFERED, ');
    await until(
      'Node has both messages',
      () => [a.readableLength, b.readableLength],
      ([x, y]) => x === 10 && y === 10,
    );
    const transfer = relay(a, b, { headFromA: Buffer.from('head, '), headFromB: Buffer.from('HEAD, ') });
    await peer.writeText(client, 'late');
    await peer.writeText(origin, 'LATE');
    t.is(await peer.readText(origin, 20), 'head, buffered, late');
    t.is(await peer.readText(client, 20), 'HEAD, BUFFERED, LATE');
    await peer.shutdown(client);
    await peer.shutdown(origin);
    t.like(await transfer, { tx: 20, rx: 20 });
  });

  test(`${transport}: bytes put back with unshift are sent in their place`, async (t) => {
    const peer = Peer.start(t);
    const { a, b, client, origin } = await pair(t, peer, transport);
    await peer.writeText(client, 'bbcc');
    await until(
      'Node has it',
      () => a.readableLength,
      (length) => length === 4,
    );
    a.unshift(Buffer.from('aa'));
    const transfer = relay(a, b);
    await peer.writeText(client, 'dd');
    t.is(await peer.readText(origin, 8), 'aabbccdd');
    await peer.shutdown(client);
    await peer.shutdown(origin);
    t.like(await transfer, { tx: 8, rx: 0 });
  });

  test(`${transport}: a socket that was read from is relayed from mid-stream`, async (t) => {
    const peer = Peer.start(t);
    const { a, b, client, origin } = await pair(t, peer, transport);
    const bytes = 32 * MiB;
    const writing = peer.write(client, bytes, 1);
    const chunks: Buffer[] = [];
    let taken = 0;
    let transfer: Transfer | undefined;
    await new Promise<void>((resolve) => {
      a.on('data', function collect(chunk: Buffer) {
        chunks.push(chunk);
        taken += chunk.length;
        if (taken > MiB) {
          a.off('data', collect);
          transfer = relay(a, b, { headFromA: Buffer.concat(chunks) });
          resolve();
        }
      });
    });
    const reading = peer.readToEnd(origin);
    const sent = await writing;
    await peer.shutdown(client);
    t.deepEqual(await reading, { ...sent, end: 'eof' });
    await peer.shutdown(origin);
    t.like(await transfer, { tx: bytes, rx: 0 });
  });

  test(`${transport}: corked writes are flushed before the first relayed byte`, async (t) => {
    const peer = Peer.start(t);
    const { a, b, client, origin } = await pair(t, peer, transport);
    for (const [socket, text] of [
      [a, 'to client, '],
      [b, 'to origin, '],
    ] as const) {
      socket.cork();
      socket.cork();
      socket.write(text.slice(0, 3));
      socket.write(text.slice(3));
    }
    const transfer = relay(a, b, { headFromA: Buffer.from('head, ') });
    await peer.writeText(client, 'x');
    await peer.writeText(origin, 'y');
    t.is(await peer.readText(origin, 18), 'to origin, head, x');
    t.is(await peer.readText(client, 12), 'to client, y');
    await peer.shutdown(client);
    await peer.shutdown(origin);
    // Bytes written in JavaScript came from neither side, so they are not counted.
    t.like(await transfer, { tx: 7, rx: 1 });
  });

  test(`${transport}: a cork during or after the flush of earlier writes delays nothing`, async (t) => {
    const peer = Peer.start(t);
    const { a, b, client, origin } = await pair(t, peer, transport);
    b.write(Buffer.alloc(4 * MiB));
    // Queued behind the first write, where a cork would keep it.
    b.write('behind it');
    const transfer = relay(a, b);
    b.cork();
    await peer.writeText(client, ', relayed');
    t.is((await peer.read(origin, 4 * MiB)).bytes, 4 * MiB);
    t.is(await peer.readText(origin, 18), 'behind it, relayed');
    a.cork();
    await peer.writeText(origin, 'and back');
    t.is(await peer.readText(client, 8), 'and back');
    await peer.shutdown(client);
    await peer.shutdown(origin);
    t.like(await transfer, { tx: 9, rx: 8 });
  });

  test(`${transport}: megabytes queued in Node are sent before the first relayed byte`, async (t) => {
    const peer = Peer.start(t);
    const { a, b, client, origin } = await pair(t, peer, transport);
    const big = randomBytes(16 * MiB);
    let written = false;
    b.write(big, () => (written = true));
    t.true(b.writableLength > 0);
    const transfer = relay(a, b);
    await peer.writeText(client, 'native');
    await peer.shutdown(client);
    const expected = { bytes: big.length + 6, sha256: sha256(big, 'native'), end: 'eof' };
    t.deepEqual(await peer.readToEnd(origin, { pauseMs: 2 }), expected);
    t.true(written);
    await peer.shutdown(origin);
    t.like(await transfer, { tx: 6, rx: 0 });
  });

  test(`${transport}: buffered bytes that exceed a pipe reach a slow reader`, async (t) => {
    const peer = Peer.start(t);
    const { a, b, client, origin } = await pair(t, peer, transport);
    const head = randomBytes(12 * MiB);
    const transfer = relay(a, b, { headFromA: head });
    await peer.writeText(client, 'tail');
    await peer.shutdown(client);
    const expected = { bytes: head.length + 4, sha256: sha256(head, 'tail'), end: 'eof' };
    t.deepEqual(await peer.readToEnd(origin, { pauseMs: 2 }), expected);
    await peer.shutdown(origin);
    t.like(await transfer, { tx: head.length + 4, rx: 0 });
  });
}

test('a connecting socket is awaited, and earlier writes to it are sent first', async (t) => {
  const peer = Peer.start(t);
  const { a, client } = await pair(t, peer);
  const { listener, port } = await peer.listen({ port: 0 });
  const upstream = net.connect(port, '127.0.0.1');
  upstream.write('greeting, ');
  const transfer = relay(a, upstream);
  t.true(upstream.connecting);
  await peer.writeText(client, 'hello');
  const { conn: origin } = await peer.accept(listener);
  t.is(await peer.readText(origin, 15), 'greeting, hello');
  await peer.shutdown(client);
  await peer.shutdown(origin);
  t.like(await transfer, { tx: 5, rx: 0 });
});

test('bytes and an end that arrive while the other side connects are passed on', async (t) => {
  const peer = Peer.start(t);
  const { a, client } = await pair(t, peer);
  const { listener, port } = await peer.listen({ port: 0 });
  await peer.writeText(client, 'hello');
  await peer.shutdown(client);
  const transfer = relay(a, net.connect(port, '127.0.0.1'));
  const { conn: origin } = await peer.accept(listener);
  t.deepEqual(await peer.readToEnd(origin), { bytes: 5, sha256: sha256('hello'), end: 'eof' });
  await peer.writeText(origin, 'answer');
  t.is(await peer.readText(client, 6), 'answer');
  await peer.shutdown(origin);
  t.like(await transfer, { tx: 5, rx: 6 });
});

test('two connecting sockets are relayed', async (t) => {
  const peer = Peer.start(t);
  const listeners = await Promise.all([peer.listen({ port: 0 }), peer.listen({ port: 0 })]);
  const [a, b] = listeners.map(({ port }) => net.connect(port, '127.0.0.1')) as [net.Socket, net.Socket];
  const transfer = relay(a, b);
  const [left, right] = (await Promise.all(listeners.map(({ listener }) => peer.accept(listener)))) as [
    { conn: number },
    { conn: number },
  ];
  await peer.writeText(left.conn, 'hello');
  t.is(await peer.readText(right.conn, 5), 'hello');
  await peer.shutdown(left.conn);
  await peer.shutdown(right.conn);
  t.like(await transfer, { tx: 5, rx: 0 });
});

test('a CONNECT request is tunnelled from the first byte after its header', async (t) => {
  const peer = Peer.start(t);
  const upstream = await peer.listen({ port: 0 });
  const gateway = http.createServer();
  t.teardown(() => void gateway.close());
  const done = new Promise<Awaited<ReturnType<typeof relay>>>((resolve, reject) => {
    gateway.on('connect', (_request: http.IncomingMessage, socket: net.Socket, head: Buffer) => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n');
      relay(socket, net.connect(upstream.port, '127.0.0.1'), { headFromA: head }).then(resolve, reject);
    });
  });
  gateway.listen(0, '127.0.0.1');
  await once(gateway, 'listening');
  const { conn: client } = await peer.connect({ port: (gateway.address() as AddressInfo).port });
  await peer.writeText(client, 'CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\nearly, ');
  const { conn: origin } = await peer.accept(upstream.listener);
  t.is(await peer.readText(client, 19), 'HTTP/1.1 200 OK\r\n\r\n');
  await peer.writeText(client, 'late');
  t.is(await peer.readText(origin, 11), 'early, late');
  await peer.writeText(origin, 'answer');
  t.is(await peer.readText(client, 6), 'answer');
  await peer.shutdown(client);
  await peer.shutdown(origin);
  t.like(await done, { tx: 11, rx: 6 });
});

test('an upgraded connection is tunnelled from the first byte after its header', async (t) => {
  const peer = Peer.start(t);
  const upstream = await peer.listen({ port: 0 });
  const gateway = http.createServer();
  t.teardown(() => void gateway.close());
  const done = new Promise<Awaited<ReturnType<typeof relay>>>((resolve, reject) => {
    gateway.on('upgrade', (_request: http.IncomingMessage, socket: net.Socket, head: Buffer) => {
      relay(socket, net.connect(upstream.port, '127.0.0.1'), { headFromA: head }).then(resolve, reject);
    });
  });
  gateway.listen(0, '127.0.0.1');
  await once(gateway, 'listening');
  const { conn: client } = await peer.connect({ port: (gateway.address() as AddressInfo).port });
  await peer.writeText(
    client,
    'GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\nearly',
  );
  const { conn: origin } = await peer.accept(upstream.listener);
  t.is(await peer.readText(origin, 5), 'early');
  await peer.writeText(origin, 'answer');
  t.is(await peer.readText(client, 6), 'answer');
  await peer.shutdown(client);
  await peer.shutdown(origin);
  t.like(await done, { tx: 5, rx: 6 });
});
