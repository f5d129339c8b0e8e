// relayOnPipe: other code joins two sockets by pipe() and gets a relay, and it notices no difference. Where a relay could
// not do the same, the pipes stay.
import { once } from 'node:events';
import net, { type Socket } from 'node:net';
import { type Duplex, PassThrough, type Writable } from 'node:stream';
import { buffer } from 'node:stream/consumers';

import test, { type ExecutionContext } from 'ava';
import { relayOnPipe, type RelayOptions, TransferError } from 'fdsplice';

import { engine } from '../helpers/engine.js';
import { failure } from '../helpers/failure.js';
import { connect, endingOf, nobody, serve } from '../helpers/local-peers.js';
import { until, within } from '../helpers/wait.js';

interface Ends {
  /** The gateway's sockets. */
  a: Socket;
  b: Socket;
  /** Their peers. */
  client: Socket;
  origin: Socket;
}

/** A socket of the gateway and its peer. */
async function accepted(t: ExecutionContext): Promise<[gateway: Socket, peer: Socket]> {
  let accept = (_socket: Socket) => {};
  const socket = new Promise<Socket>((resolve) => (accept = resolve));
  const { port } = await serve(t, (each) => accept(each));
  const peer = await connect(t, { port });
  return [await within(10_000, 'a connection', socket), peer];
}

async function ends(t: ExecutionContext): Promise<Ends> {
  const [a, client] = await accepted(t);
  const [b, origin] = await accepted(t);
  return { a, b, client, origin };
}

/** The events of a socket that other code looks at, in order. */
function eventsOf(socket: Socket): string[] {
  const events: string[] = [];
  socket
    .on('end', () => events.push('end'))
    .on('error', ({ message }) => events.push(`error ${message.replace('write EPIPE', 'read ECONNRESET')}`))
    .on('close', (hadError) => events.push(`close ${hadError}`));
  return events;
}

/** Sends `hello` and `world` across, ends both sides, and checks what arrived. */
async function talk(t: ExecutionContext, { client, origin }: Ends) {
  client.end('hello');
  origin.end('world');
  t.deepEqual(
    (await within(20_000, 'both sides end', Promise.all([buffer(origin), buffer(client)]))).map(String),
    ['hello', 'world'],
  );
}

const orders: [name: string, join: (a: Duplex, b: Duplex) => void][] = [
  ['socket.pipe(x).pipe(socket)', (a, b) => a.pipe(b).pipe(a)],
  ['x.pipe(socket).pipe(x)', (a, b) => b.pipe(a).pipe(b)],
  ['socket.pipe(x), then x.pipe(socket)', (a, b) => (a.pipe(b), b.pipe(a))],
  ['x.pipe(socket), then socket.pipe(x)', (a, b) => (b.pipe(a), a.pipe(b))],
];

for (const [name, join] of orders) {
  test(`${name} becomes one relay, and nothing of it stays on the sockets`, async (t) => {
    const made = await ends(t);
    const { a, b } = made;
    const events = [eventsOf(a), eventsOf(b)];
    const piped: string[] = [];
    a.on('pipe', () => piped.push('a'));
    b.on('pipe', () => piped.push('b'));
    const listeners = () =>
      ['pipe', 'close', 'data', 'unpipe'].map((event) => [a.listenerCount(event), b.listenerCount(event)]);
    const before = listeners();
    const relayed = relayOnPipe(a);
    join(a, b);
    await talk(t, made);
    t.like(await within(20_000, 'the relay ends', relayed), { tx: 5, rx: 5, engine, error: null });
    t.deepEqual(piped.sort(), ['a', 'b']);
    t.deepEqual(events, Array(2).fill(['end', 'close false']));
    t.deepEqual([a.bytesRead, a.bytesWritten, b.bytesRead, b.bytesWritten], [5, 5, 5, 5]);
    t.false(Object.hasOwn(a, 'pipe'));
    t.deepEqual(listeners(), before);
  });
}

test('bytes that Node has read before the pipes are delivered first, and what was written comes before relayed bytes', async (t) => {
  const made = await ends(t);
  const { a, b, client, origin } = made;
  client.write('early ');
  await once(a, 'readable');
  const relayed = relayOnPipe(a);
  a.write('greeting ');
  a.pipe(b).pipe(a);
  b.write('hello ');
  client.end('late');
  origin.end('answer');
  t.deepEqual((await Promise.all([buffer(origin), buffer(client)])).map(String), [
    'hello early late',
    'greeting answer',
  ]);
  t.like(await relayed, { tx: 10, rx: 6, engine });
});

test('bytes that were put back before the pipes are counted by the relay, in either order', async (t) => {
  for (const [name, join] of orders) {
    const made = await ends(t);
    const { a, b } = made;
    const relayed = relayOnPipe(a);
    // As after a handshake that had bytes behind it. Putting them back makes Node emit them in a later tick.
    a.unshift(Buffer.from('early '));
    b.unshift(Buffer.from('first '));
    join(a, b);
    made.client.end('hello');
    made.origin.end('world');
    const received = await within(
      20_000,
      'both sides end',
      Promise.all([buffer(made.origin), buffer(made.client)]),
    );
    t.deepEqual(received.map(String), ['early hello', 'first world'], name);
    t.like(await relayed, { tx: 11, rx: 11 }, name);
  }
});

test('if both sockets wait for their pipes, one relay takes both and loses no byte', async (t) => {
  const made = await ends(t);
  const { a, b, client, origin } = made;
  const relayed = relayOnPipe(a);
  const other = relayOnPipe(b, { reject: false });
  a.unshift(Buffer.from('early '));
  b.unshift(Buffer.from('first '));
  a.pipe(b).pipe(a);
  client.end('hello');
  origin.end('world');
  const received = await within(20_000, 'both sides end', Promise.all([buffer(origin), buffer(client)]));
  t.deepEqual(received.map(String), ['early hello', 'first world']);
  t.like(await relayed, { tx: 11, rx: 11, engine });
  t.is((await other).error?.code, 'ERR_STREAM_DESTROYED');
});

test('one direction alone is a real pipe, and the promise settles when the socket closes', async (t) => {
  const { a, b, client, origin } = await ends(t);
  const relayed = relayOnPipe(a, { reject: false });
  a.pipe(b);
  client.end('hello');
  t.is((await within(20_000, 'the end', buffer(origin))).toString(), 'hello');
  t.false(a.destroyed);
  a.destroy();
  const { error, total } = await within(20_000, 'the promise settles', relayed);
  t.like(error, { code: 'ERR_STREAM_DESTROYED', side: 'a', afterEnd: false });
  t.is(total, 0);
});

for (const [name, join] of [
  ['socket.pipe', (a: Socket, b: Socket) => (a.pipe(b, { end: false }), b.pipe(a))],
  ['x.pipe', (a: Socket, b: Socket) => (b.pipe(a, { end: false }), a.pipe(b))],
] as const) {
  test(`with { end: false } in ${name} both pipes are real`, async (t) => {
    const { a, b, client, origin } = await ends(t);
    const relayed = relayOnPipe(a, { reject: false });
    join(a, b);
    client.end('hello');
    origin.end('world');
    const open = name === 'socket.pipe' ? origin : client;
    const ended = open === origin ? client : origin;
    const seen: string[] = [];
    open.on('end', () => seen.push('end')).on('data', (chunk: Buffer) => seen.push(chunk.toString()));
    await within(20_000, 'the other side ends', buffer(ended));
    const last = open === origin ? b : a;
    last.write(' and more');
    await until(
      'the bytes that follow',
      () => seen.join(''),
      (text) => text.endsWith('more'),
    );
    t.false(seen.includes('end'));
    last.destroy();
    a.destroy();
    t.is((await relayed).error?.code, 'ERR_STREAM_DESTROYED');
  });
}

for (const [name, read] of [
  ['a pipe to a third party', (socket: Socket, third: Writable) => void socket.pipe(third)],
  [
    "a listener for 'data'",
    (socket: Socket, third: Writable) => void socket.on('data', (chunk) => third.write(chunk)),
  ],
] as const) {
  for (const which of ['a', 'b'] as const) {
    test(`${name} of ${which} keeps both pipes real, and gets all bytes`, async (t) => {
      const made = await ends(t);
      const { a, b } = made;
      const third = new PassThrough();
      const chunks: Buffer[] = [];
      third.on('data', (chunk: Buffer) => chunks.push(chunk));
      const relayed = relayOnPipe(a, { reject: false });
      a.pipe(b).pipe(a);
      read(made[which], third);
      await talk(t, made);
      t.is(Buffer.concat(chunks).toString(), which === 'a' ? 'hello' : 'world');
      a.destroy();
      t.is((await relayed).error?.code, 'ERR_STREAM_DESTROYED');
    });
  }
}

test('a pair that relay refuses keeps its pipes: a socket with an encoding, an echo, a stream of objects', async (t) => {
  for (const kind of ['encoding', 'echo', 'objects']) {
    const made = await ends(t);
    const { a, b, client } = made;
    const relayed = relayOnPipe(a, { reject: false });
    if (kind === 'encoding') {
      a.setEncoding('utf8');
      a.pipe(b).pipe(a);
      await talk(t, made);
    } else {
      if (kind === 'echo') a.pipe(a);
      else a.pipe(new PassThrough({ readableObjectMode: true })).pipe(a);
      client.end('hello');
      t.is((await within(20_000, 'the echo', buffer(client))).toString(), 'hello', kind);
    }
    a.destroy();
    t.is((await within(20_000, 'the promise settles', relayed)).error?.code, 'ERR_STREAM_DESTROYED', kind);
  }
});

test('a socket that closes before it is piped settles the promise, as its options say', async (t) => {
  const [destroyed] = await accepted(t);
  destroyed.destroy();
  t.like(await failure(t, relayOnPipe(destroyed)), { code: 'ERR_STREAM_DESTROYED', side: 'a' });

  const [closed] = await accepted(t);
  const rejects = relayOnPipe(closed);
  const cause = new Error('not wanted');
  closed.destroy(cause);
  t.like(await failure(t, rejects), { code: 'ERR_STREAM_DESTROYED', side: 'a', cause });

  const [reset, peer] = await accepted(t);
  const resolves = relayOnPipe(reset, { reject: false });
  reset.resume();
  peer.resetAndDestroy();
  const { error, engine: used } = await within(20_000, 'the promise settles', resolves);
  t.like(error, { code: 'ERR_STREAM_DESTROYED', side: 'a' });
  t.like(error?.cause, { code: 'ECONNRESET' });
  t.true(error instanceof TransferError);
  t.is(used, engine);
});

test('pipes that are taken down at once leave the bytes to the next pipes', async (t) => {
  for (const [name, join] of orders) {
    const made = await ends(t);
    const { a, b, client } = made;
    const relayed = relayOnPipe(a);
    join(a, b);
    a.unpipe(b);
    b.unpipe(a);
    client.write('early ');
    await until(
      'the bytes have arrived',
      () => a.bytesRead,
      (bytes) => bytes === 6,
    );
    t.is(a.readableFlowing, false, name);
    join(a, b);
    client.end('late');
    made.origin.end();
    t.is((await within(20_000, 'the end', buffer(made.origin))).toString(), 'early late', name);
    t.like(await relayed, { tx: 10, rx: 0 }, name);
  }
});

test('what is written when the target has connected comes before relayed bytes', async (t) => {
  const [a, client] = await accepted(t);
  const { port } = await serve(t, (socket) => socket.pipe(socket));
  const relayed = relayOnPipe(a);
  client.write('early ');
  await once(a, 'readable');
  const b = net.connect({ port, host: '127.0.0.1' }, () => a.write('connected '));
  a.pipe(b);
  b.pipe(a);
  b.on('connect', () => a.write('ready '));
  client.end('late');
  t.is((await within(20_000, 'the echo', buffer(client))).toString(), 'connected ready early late');
  t.like(await relayed, { tx: 10, rx: 10, engine, error: null });
});

test('a target that cannot be reached leaves the socket to the code that piped it', async (t) => {
  const [a, client] = await accepted(t);
  const [, port = ''] = (await nobody(t)).split(':');
  const relayed = relayOnPipe(a, { reject: false });
  const b = net.connect(Number(port), '127.0.0.1');
  const seen: unknown[] = [];
  b.on('error', ({ code }: NodeJS.ErrnoException) => {
    seen.push(code);
    a.end('502');
  });
  a.pipe(b).pipe(a);
  client.end('hello');
  t.is((await within(20_000, 'the answer', buffer(client))).toString(), '502');
  t.like((await relayed).error, { code: 'ECONNREFUSED', side: 'b', syscall: 'connect' });
  t.deepEqual(seen, ['ECONNREFUSED']);
});

for (const side of ['a', 'b'] as const) {
  test(`a reset of ${side} is an 'error' of that socket alone, once and before 'close', and the other side is reset`, async (t) => {
    const made = await ends(t);
    const { a, b, client, origin } = made;
    const events = { a: eventsOf(a), b: eventsOf(b) };
    const relayed = relayOnPipe(a, { reject: false });
    a.pipe(b).pipe(a);
    client.write('hello');
    await once(origin, 'data');
    origin.write('world');
    await once(client, 'data');
    const [gone, left] = side === 'a' ? [client, origin] : [origin, client];
    const ending = endingOf(left);
    gone.resetAndDestroy();
    t.like((await within(20_000, 'the relay ends', relayed)).error, { code: 'ECONNRESET', side });
    t.is(await within(20_000, 'the other side ends', ending), 'ECONNRESET');
    t.deepEqual(events[side], ['error read ECONNRESET', 'close true']);
    t.deepEqual(events[side === 'a' ? 'b' : 'a'], ['close false']);
    const { errored } = made[side] as { errored: NodeJS.ErrnoException | null };
    t.like(errored, { code: 'ECONNRESET', errno: -104 });
  });
}

test('a side that has ended and is then reset emits both', async (t) => {
  const { a, b, client, origin } = await ends(t);
  const events = eventsOf(a);
  const relayed = relayOnPipe(a, { reject: false });
  a.pipe(b).pipe(a);
  client.end('hello');
  t.is(await within(20_000, 'the end', endingOf(origin)), 'end');
  client.resetAndDestroy();
  const more = setInterval(() => origin.writable && origin.write('world'), 20);
  t.teardown(() => clearInterval(more));
  t.is((await within(20_000, 'the relay ends', relayed)).error?.side, 'a');
  t.deepEqual(events, ['end', 'error read ECONNRESET', 'close true']);
});

test('a side without allowHalfOpen that has ended and is then reset emits no error, as after pipe()', async (t) => {
  const [a, client] = await accepted(t);
  const peers: Socket[] = [];
  const { port } = await serve(t, (socket) => void peers.push(socket));
  const b = await connect(t, { port });
  b.allowHalfOpen = false;
  const [origin] = await until(
    'the origin',
    () => peers,
    (all) => all.length === 1,
  );
  const events = eventsOf(b);
  const relayed = relayOnPipe(a, { reject: false });
  a.pipe(b).pipe(a);
  origin?.end('world');
  t.is(await within(20_000, 'the end', endingOf(client)), 'end');
  origin?.resetAndDestroy();
  const more = setInterval(() => client.writable && client.write('hello'), 20);
  t.teardown(() => clearInterval(more));
  t.is((await within(20_000, 'the relay ends', relayed)).error?.side, 'b');
  t.deepEqual(
    events.map((event) => event.split(' ')[0]),
    ['end', 'close'],
  );
});

test("an abort, a limit and a destroyed socket are no 'error' of either socket", async (t) => {
  const stopped = new AbortController();
  for (const [code, options, stop] of [
    ['ABORT_ERR', { signal: stopped.signal }, () => stopped.abort()],
    ['ERR_IDLE_TIMEOUT', { idleTimeout: 50 }, () => undefined],
    ['ABORT_ERR', {}, ({ a }: Ends) => a.destroy()],
  ] as [string, RelayOptions, (made: Ends) => void][]) {
    const made = await ends(t);
    const events = [eventsOf(made.a), eventsOf(made.b)];
    const relayed = relayOnPipe(made.a, { ...options, reject: false });
    made.a.pipe(made.b).pipe(made.a);
    made.client.write('hello');
    await once(made.origin, 'data');
    stop(made);
    t.is((await within(20_000, 'the relay ends', relayed)).error?.code, code);
    t.deepEqual(events, Array(2).fill(['close false']));
  }
});

test('a signal destroys a socket that still waits for its pipes or for the connection of its target', async (t) => {
  const stopped = new AbortController();
  const { signal } = stopped;
  const [waiting] = await accepted(t);
  const [connecting] = await accepted(t);
  const unresolved = net.connect({ port: 9, host: 'target.invalid', lookup: () => undefined });
  t.teardown(() => unresolved.destroy());
  const relayed = [relayOnPipe(waiting, { signal }), relayOnPipe(connecting, { signal })];
  connecting.pipe(unresolved).pipe(connecting);
  await new Promise((resolve) => setImmediate(resolve));
  const cause = new Error('shutdown');
  stopped.abort(cause);
  for (const each of relayed) t.like(await failure(t, each), { code: 'ABORT_ERR', cause });
  t.deepEqual(
    [waiting, connecting, unresolved].map(({ destroyed }) => destroyed),
    [true, true, true],
  );
  const [late] = await accepted(t);
  t.like(await failure(t, relayOnPipe(late, { signal })), { code: 'ABORT_ERR', cause });
});

test("a caller's mistake rejects and leaves the socket alone", async (t) => {
  const made = await ends(t);
  const { a, b } = made;
  for (const [socket, options, code] of [
    [3, {}, 'ERR_INVALID_ARG_TYPE'],
    [process.stdout, { rateLimit: 0 }, 'ERR_OUT_OF_RANGE'],
    [a, { unknown: 1 }, 'ERR_INVALID_ARG_VALUE'],
  ] as [never, RelayOptions, string][]) {
    await t.throwsAsync(relayOnPipe(socket, { ...options, reject: false }), { code });
  }
  t.false(Object.hasOwn(a, 'pipe'));
  const relayed = relayOnPipe(a);
  await t.throwsAsync(relayOnPipe(a), { code: 'ERR_INVALID_ARG_VALUE', message: /"socket"/ });
  a.pipe(b).pipe(a);
  await talk(t, made);
  t.like(await relayed, { tx: 5, rx: 5 });
});
