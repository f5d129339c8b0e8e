// TLS sessions whose connection ends without close_notify. Node reports that as an ordinary end; a transfer must not pass it
// on as a complete stream. The peers are TLS sessions of Node's and a process in the middle that cuts the connection.
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import net, { type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tls from 'node:tls';

import test, { type ExecutionContext } from 'ava';
import { copy, type CopyOptions, relay } from 'fdsplice';

import { failure } from '../helpers/failure.js';
import { nothingIsLeft } from '../helpers/left.js';
import { pair } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';
import { identity, trust } from '../helpers/tls.js';
import { until, within } from '../helpers/wait.js';
import { sink } from './ends.js';

nothingIsLeft(test, 'behind all tests');

interface Cut {
  inner: tls.TLSSocket;
  outer: tls.TLSSocket;
  /** Ends the connection to `inner` by FIN; the session below does not end. */
  cut(this: void, lastBytes?: Buffer): void;
  /** Every byte that was on its way to `inner`. */
  wire: Buffer[];
}

type Version = 'TLSv1.2' | 'TLSv1.3';

/** A TLS session through a process in the middle. */
async function session(
  t: ExecutionContext,
  version: Version = 'TLSv1.3',
  options: net.ListenOptions = { port: 0, host: '127.0.0.1' },
): Promise<Cut> {
  const server = tls.createServer({ ...identity, allowHalfOpen: true, maxVersion: version });
  const middle = net.createServer({ allowHalfOpen: true });
  for (const [each, address] of [
    [server, options],
    [middle, { port: 0, host: '127.0.0.1' }],
  ] as const) {
    each.listen({ ...address });
    t.teardown(() => void each.close());
    await once(each, 'listening');
  }
  const address = server.address() as AddressInfo | string;
  const wire: Buffer[] = [];
  let up: net.Socket | undefined;
  middle.on('connection', (down) => {
    const target = typeof address === 'string' ? { path: address } : { port: address.port };
    up = net.connect({ ...target, allowHalfOpen: true });
    down.on('data', (chunk: Buffer) => {
      wire.push(chunk);
      up?.write(chunk);
    });
    down.on('end', () => up?.end());
    up.pipe(down);
    for (const socket of [down, up]) {
      socket.on('error', () => {});
      t.teardown(() => socket.destroy());
    }
  });
  const accepted = once(server, 'secureConnection') as Promise<[tls.TLSSocket]>;
  const { port } = middle.address() as AddressInfo;
  const outer = tls.connect({
    port,
    host: '127.0.0.1',
    ...trust,
    allowHalfOpen: true,
  } as tls.ConnectionOptions);
  const [[inner]] = await Promise.all([accepted, once(outer, 'secureConnect')]);
  for (const socket of [inner, outer]) {
    socket.on('error', () => {});
    t.teardown(() => socket.destroy());
  }
  t.is(inner.getProtocol(), version);
  const cut = (lastBytes?: Buffer) => {
    if (lastBytes !== undefined) up?.write(lastBytes);
    up?.end();
  };
  return { inner, outer, cut, wire };
}

/** A copy from a session that has delivered its first 4 bytes. */
async function halfCopied({ inner, outer }: Cut, options?: CopyOptions) {
  const { stream, bytes } = sink();
  const transfer = copy(inner, stream, options);
  outer.write('half');
  await until(
    'a half arrives',
    () => bytes().length,
    (count) => count === 4,
  );
  return { transfer, stream };
}

/** Cuts a relayed TLS session off in the middle of a message. The relay must report that end and reset the other one. */
async function cutOff(
  t: ExecutionContext,
  version: 'TLSv1.2' | 'TLSv1.3',
  prepare: (inner: tls.TLSSocket, b: net.Socket) => void = () => {},
): Promise<void> {
  const peer = Peer.start(t);
  const { inner, outer, cut } = await session(t, version);
  const { b, origin } = await pair(t, peer);
  prepare(inner, b);
  const transfer = relay(inner, b);
  outer.write('half');
  t.is(await peer.readText(origin, 4), 'half');
  cut();
  t.like(await failure(t, transfer), { code: 'ECONNRESET', side: 'a', traffic: { tx: 4, rx: 0 } });
  t.like(await peer.readToEnd(origin), { end: 'reset' });
}

for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
  test(`${version}: a relay whose TLS client is cut off resets the origin, and keeps the counts`, (t) =>
    cutOff(t, version));

  for (const event of ['end', 'close']) {
    test(`${version}: a listener for '${event}' that writes to the origin leaves the blame with the session that is cut off`, (t) =>
      cutOff(t, version, (inner, b) => inner.on(event, () => b.end('bye'))));
  }

  test(`${version}: a copy from a TLS session that is cut off fails`, async (t) => {
    const ends = await session(t, version);
    const { transfer, stream } = await halfCopied(ends, { endDestination: true });
    ends.cut();
    t.like(await failure(t, transfer), { code: 'ECONNRESET', side: 'source', traffic: { tx: 4 } });
    t.false(stream.writableEnded);
  });

  test(`${version}: a close_notify is a clean end, also right behind bulk that the destination does not take yet`, async (t) => {
    const { inner, outer } = await session(t, version);
    const { stream, bytes } = sink({ highWaterMark: 1 });
    const transfer = copy(inner, stream);
    const sent = Buffer.alloc(1_000_000, 'b');
    outer.end(sent);
    t.like(await within(20_000, 'the copy ends', transfer), { tx: sent.length, error: null });
    t.is(bytes().length, sent.length);
  });
}

test('a session that is cut off in the middle of a record fails, and the bytes before arrive', async (t) => {
  const ends = await session(t);
  const { transfer } = await halfCopied(ends);
  const last = ends.wire.at(-1) ?? Buffer.alloc(0);
  // As long as a close_notify, and the beginning of a longer record.
  ends.cut(Buffer.concat([Buffer.from([0x17, 3, 3, 1, 0]), last.subarray(5), last]).subarray(0, 24));
  t.like(await failure(t, transfer), { code: 'ECONNRESET', side: 'source', traffic: { tx: 4 } });
});

test('a session that is cut off right behind its last bytes fails, and these bytes arrive', async (t) => {
  const { inner, outer } = await session(t);
  const { stream, bytes } = sink();
  const transfer = copy(inner, stream);
  // The middle passes the FIN on, and no close_notify comes before it.
  outer.write('half');
  await new Promise<void>((resolve) => outer.write('!', () => resolve()));
  outer.destroy();
  t.like(await failure(t, transfer), { code: 'ECONNRESET', side: 'source', traffic: { tx: 5 } });
  t.is(String(bytes()), 'half!');
});

test('a TLS session over a Unix socket that is cut off fails its copy', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'fdsplice-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const ends = await session(t, 'TLSv1.3', { path: join(directory, 's') });
  const { transfer } = await halfCopied(ends);
  ends.cut();
  t.like(await failure(t, transfer), { code: 'ECONNRESET', side: 'source' });
});

test('a TLS client that closes without close_notify after the whole answer is no failure', async (t) => {
  const peer = Peer.start(t);
  const { inner, outer, cut } = await session(t);
  const { b, origin } = await pair(t, peer);
  const transfer = relay(inner, b);
  outer.write('request');
  t.is(await peer.readText(origin, 7), 'request');
  const ended = once(outer.resume(), 'end');
  await peer.writeText(origin, 'answer');
  await peer.shutdown(origin);
  await within(20_000, 'the client sees the end', ended);
  cut();
  t.like(await within(20_000, 'the relay ends', transfer), { tx: 7, rx: 6, error: null });
});
