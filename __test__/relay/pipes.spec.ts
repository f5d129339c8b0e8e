// Ends that Node pipes when a relay takes them over: pipes between the two are taken down without a lost byte, and those to
// or from a third stream are a caller's mistake.
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';
import { type Duplex, PassThrough, pipeline } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import { TLSSocket } from 'node:tls';

import test from 'ava';
import { copy, relay, type Transfer } from 'fdsplice';

import { nothingIsLeft } from '../helpers/left.js';
import { until, within } from '../helpers/wait.js';
import { all, sink } from '../streams/ends.js';
import { blameOf, KINDS, tcp } from './kinds.js';

nothingIsLeft(test, 'behind all tests');

/** More than all buffers between two peers hold. */
const BULK = randomBytes(20 * 1024 * 1024);

/** How an owner pipes the two ends before the relay. */
const PIPES: Record<string, (a: Duplex, b: Duplex) => void> = {
  'both ways': (a, b) => a.pipe(b).pipe(a),
  'one way': (a, b) => a.pipe(b),
  'the other way': (a, b) => b.pipe(a),
  'without an end': (a, b) => a.pipe(b, { end: false }).pipe(a, { end: false }),
};

/** How many listeners of pipes an end has. */
function pipeListeners(stream: Duplex): number[] {
  return ['unpipe', 'data', 'drain'].map((event) => stream.listenerCount(event));
}

/** Bytes that a pipe has taken from a socket; `undefined` for other streams, which do not count what they have read. */
function takenFrom(stream: Duplex): number | undefined {
  if (!(stream instanceof net.Socket) || stream instanceof TLSSocket) return undefined;
  return stream.bytesRead - stream.readableLength;
}

async function write(stream: Duplex, bytes: Buffer): Promise<void> {
  for (let at = 0; at < bytes.length; at += 65_536) {
    if (!stream.write(bytes.subarray(at, at + 65_536))) await once(stream, 'drain');
  }
  stream.end();
}

/** The number of bytes until the end of a stream, and their hash. */
async function read(stream: Duplex): Promise<[bytes: number, hash: string]> {
  const hash = createHash('sha256');
  let bytes = 0;
  stream.on('data', (chunk: Buffer) => {
    hash.update(chunk);
    bytes += chunk.length;
  });
  await within(60_000, 'a stream ends', once(stream, 'end'));
  return [bytes, hash.digest('hex')];
}

for (const [kind, make] of Object.entries(KINDS)) {
  for (const [ways, pipe] of Object.entries(PIPES)) {
    test.serial(
      `${kind}: ends that are piped ${ways} lose no byte to the relay that takes over amid bulk`,
      async (t) => {
        const { client, a, b, origin } = await make(t);
        const before = [a, b].map(pipeListeners);
        pipe(a, b);
        const piped = [a, b].map((stream) => stream.listenerCount('unpipe') > 0);
        const writing = Promise.all([write(client, BULK), write(origin, BULK)]);
        // No peer reads, so the pipes fill up.
        const isFull = (stream: Duplex, index: number) => !piped[index] || stream.writableNeedDrain;
        await until('the pipes are full', () => [a, b].every(isFull), Boolean);
        const [pipedFromA, pipedFromB] = [a, b].map(takenFrom);
        const transfer = relay(a, b);
        const [there, back] = [read(origin), read(client)];
        await within(60_000, 'everything is written', writing);
        const hash = createHash('sha256').update(BULK).digest('hex');
        t.deepEqual(await there, [BULK.length, hash]);
        t.deepEqual(await back, [BULK.length, hash]);
        const { tx, rx, error } = await within(20_000, 'the relay ends', transfer);
        t.is(error, null);
        if (pipedFromA !== undefined) t.is(tx, BULK.length - pipedFromA);
        if (pipedFromB !== undefined) t.is(rx, BULK.length - pipedFromB);
        t.deepEqual([a, b].map(pipeListeners), before);
      },
    );
  }
}

/** What the pipes of an owner hold at the moment of the relay: bytes that were read, and bytes that were written. */
const STATES: Record<string, (a: Duplex, b: Duplex) => void> = {
  paused: (a) => a.pause(),
  'piped twice': (a, b) => a.pipe(b),
  corked: (_a, b) => b.cork(),
  'with a listener for data': (a) => a.on('data', () => {}),
  'with a listener that resumes it': (a, b) => b.on('drain', () => a.resume()),
};

for (const [kind, make] of Object.entries(KINDS)) {
  for (const [state, prepare] of Object.entries(STATES)) {
    test(`${kind}: bytes before the relay, its head and bytes after it arrive in order, the pipe ${state}`, async (t) => {
      const { client, a, b, origin } = await make(t);
      let got = '';
      origin.on('data', (chunk: Buffer) => (got += chunk.toString()));
      a.pipe(b);
      b.pipe(a);
      client.write('1');
      await until('the pipe works', () => got === '1', Boolean);
      prepare(a, b);
      b.write('2');
      // Read by the end, and not piped yet.
      a.pause().unshift(Buffer.from('4'));
      if (state !== 'paused') a.resume();
      const transfer = relay(a, b, { headFromA: Buffer.from('3') });
      client.end('5');
      origin.end('answer');
      t.is(String(await all(client)), 'answer');
      t.like(await within(20_000, 'the relay ends', transfer), { tx: 3, rx: 6, error: null });
      await until(
        'everything arrives',
        () => got,
        (value) => value === '12345',
      );
      t.deepEqual([a.listenerCount('unpipe'), b.listenerCount('unpipe')], [0, 0]);
    });
  }

  test.serial(
    `${kind}: a relay from a listener for 'data' loses no byte that the pipe has still to write`,
    async (t) => {
      const { client, a, b, origin } = await make(t);
      let transfer: Transfer | undefined;
      let seen = 0;
      a.on('data', (chunk: Buffer) => {
        seen += chunk.length;
        if (seen > 1_000_000) transfer ??= relay(a, b, { reject: false });
      });
      a.pipe(b).pipe(a);
      const [there, back] = [read(origin), read(client)];
      await within(60_000, 'everything is written', Promise.all([write(client, BULK), write(origin, BULK)]));
      const hash = createHash('sha256').update(BULK).digest('hex');
      t.deepEqual(await there, [BULK.length, hash]);
      t.deepEqual(await back, [BULK.length, hash]);
      const result = await within(20_000, 'the relay ends', transfer!);
      t.like(result, { tx: BULK.length - seen, error: null });
    },
  );

  test(`${kind}: an abort or a destroy() right after the relay has taken a pipe down ends it at once`, async (t) => {
    for (const ending of ['abort', 'destroy'] as const) {
      const { client, a, b, origin } = await make(t);
      for (const stream of [client, origin]) stream.on('error', () => {});
      a.pipe(b).pipe(a);
      const transfer = relay(a, b, { reject: false });
      const cause = new Error('the reason');
      if (ending === 'abort') transfer.abort(cause);
      else b.destroy(cause);
      const { error } = await within(20_000, 'the relay ends', transfer);
      t.like(error, { code: 'ABORT_ERR', cause });
      t.is(error?.side, ending === 'abort' ? undefined : 'b');
      t.true(a.destroyed && b.destroyed);
    }
  });

  test.serial(`${kind}: pipelines between the ends end with the relay, which loses no byte`, async (t) => {
    const { client, a, b, origin } = await make(t);
    const done = [
      new Promise<void>((resolve) => pipeline(a, b, () => resolve())),
      new Promise<void>((resolve) => pipeline(b, a, () => resolve())),
    ];
    for (const stream of [a, b]) stream.setMaxListeners(20);
    const writing = Promise.all([write(client, BULK), write(origin, BULK)]);
    await until('the pipes are full', () => a.writableNeedDrain && b.writableNeedDrain, Boolean);
    const transfer = relay(a, b);
    const [there, back] = [read(origin), read(client)];
    await within(60_000, 'everything is written', writing);
    t.is((await there)[0], BULK.length);
    t.is((await back)[0], BULK.length);
    t.is((await within(20_000, 'the relay ends', transfer)).error, null);
    await within(20_000, 'the pipelines call back', Promise.all(done));
  });

  test(`${kind}: a pipeline between the ends does not change the verdict on an end that is destroyed`, async (t) => {
    for (const side of ['a', 'b'] as const) {
      const { client, a, b, origin } = await make(t);
      for (const stream of [client, origin]) stream.on('error', () => {});
      const done = new Promise<void>((resolve) => pipeline(a, b, () => resolve()));
      const transfer = relay(a, b, { reject: false });
      const cause = new Error('destroyed by its owner');
      const { [side]: failed } = { a, b };
      failed.on('error', () => {}).destroy(cause);
      const { error } = await within(20_000, 'the relay ends', transfer);
      t.like(error, blameOf(failed, side, cause));
      await within(20_000, 'the pipeline calls back', done);
    }
  });

  test(`${kind}: a pipe to or from a third stream is a mistake, and all pipes go on`, async (t) => {
    for (const side of ['a', 'b'] as const) {
      const { client, a, b, origin } = await make(t);
      const { [side]: end } = { a, b };
      const opposite = side === 'a' ? 'b' : 'a';
      a.pipe(b);
      b.pipe(a);
      const copied = sink();
      const third = new PassThrough();
      const mistakes: [name: string, pipe: () => () => void][] = [
        ['out', () => (end.pipe(copied.stream), () => void end.unpipe(copied.stream))],
        ['in', () => (third.pipe(end), () => void third.unpipe(end))],
        ['through', () => (end.pipe(third).pipe(end), () => void end.unpipe(third))],
      ];
      for (const [name, pipe] of mistakes) {
        const undo = pipe();
        const transfer = relay(a, b, { reject: false });
        const wanted = {
          code: 'ERR_INVALID_ARG_VALUE',
          message: new RegExp(`^"${side}" must not (be piped to|have) a stream other than "${opposite}"`),
        };
        await t.throwsAsync(transfer, { instanceOf: TypeError, ...wanted }, name);
        undo();
        third.unpipe();
      }
      t.deepEqual([a.listenerCount('unpipe'), b.listenerCount('unpipe')], [1, 1]);
      client.end('request');
      t.is(String(await all(origin)), 'request');
      origin.end('answer');
      t.is(String(await all(client)), 'answer');
    }
  });

  test(`${kind}: a listener for 'unpipe' that throws fails the relay, and both ends are destroyed`, async (t) => {
    const { client, a, b, origin } = await make(t);
    for (const stream of [client, origin, a, b]) stream.on('error', () => {});
    const cause = new Error('thrown by a listener');
    a.pipe(b).on('unpipe', () => {
      throw cause;
    });
    const transfer = relay(a, b, { reject: false });
    const { error } = await within(20_000, 'the relay ends', transfer);
    t.like(error, { code: 'ABORT_ERR', cause });
    t.true(a.destroyed && b.destroyed);
  });

  test(`${kind}: a copy from a stream that is piped is a mistake, and the pipe gets every byte`, async (t) => {
    const { client, a, b, origin } = await make(t);
    const piped = sink();
    const message = '"source" must not be piped to a stream: unpipe() it first';
    const wanted = { instanceOf: TypeError, code: 'ERR_INVALID_ARG_VALUE', message };
    for (const destination of [piped.stream, b]) {
      a.pipe(destination);
      await t.throwsAsync(copy(a, b, { length: 3 }), wanted);
    }
    const there = all(origin);
    client.end('all of it');
    t.is(String(await there), 'all of it');
    t.is(String(piped.bytes()), 'all of it');
  });
}

for (const [first, second] of [
  ['a', 'b'],
  ['b', 'a'],
] as const) {
  test(`bytes that were piped into ${second} before it has connected arrive in order`, async (t) => {
    const [client, connected] = await tcp(t);
    const server = net.createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1');
    t.teardown(() => void server.close());
    await once(server, 'listening');
    const accepted = once(server, 'connection') as Promise<[net.Socket]>;
    const { port } = server.address() as net.AddressInfo;
    client.write('1');
    await within(20_000, 'bytes are there', once(connected, 'readable'));
    const connecting = net.connect({ port, host: '127.0.0.1' });
    connected.pipe(connecting).pipe(connected);
    // The pipe has written what had arrived to the socket that is not connected yet.
    await turn();
    const ends = { [first]: connected, [second]: connecting } as Record<'a' | 'b', net.Socket>;
    const transfer = relay(ends.a, ends.b);
    client.end('2');
    const [origin] = await accepted;
    t.is(String(await all(origin)), '12');
    origin.end();
    t.is((await within(20_000, 'the relay ends', transfer)).error, null);
  });
}
