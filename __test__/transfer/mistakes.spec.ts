// Wrong arguments of relay and copy: the call rejects with the code of the mistake and leaves all sockets usable.
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { open } from 'node:fs/promises';
import net from 'node:net';
import { Readable, Writable } from 'node:stream';

import test, { type ExecutionContext } from 'ava';
import { copy, relay, TransferError, type Transfer } from 'fdsplice';

import { nativeTest } from '../helpers/engine.js';
import { descriptorOf, opened } from '../helpers/descriptors.js';
import { pair, type Pair } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';
import { until, within } from '../helpers/wait.js';

/** The rejection of a call with a wrong argument. It is never thrown synchronously and is no TransferError. */
async function mistake(t: ExecutionContext, call: () => Transfer): Promise<NodeJS.ErrnoException> {
  const error = await within(
    5000,
    'the call is rejected',
    call().then(
      (result) => {
        throw new Error(`accepted: ${JSON.stringify(result)}`);
      },
      (error: unknown) => error,
    ),
  );
  t.true(error instanceof Error);
  t.false(error instanceof TransferError, String(error));
  return error as NodeJS.ErrnoException;
}

/** A pair whose `a` holds unread bytes, and a check that `a` still has them and works both ways. */
async function bystander(t: ExecutionContext): Promise<Pair & { works: () => Promise<void> }> {
  const peer = Peer.start(t);
  const made = await pair(t, peer);
  await peer.writeText(made.client, 'early');
  await until(
    'Node has the bytes',
    () => made.a.readableLength,
    (length) => length === 5,
  );
  const works = async () => {
    t.false(made.a.destroyed);
    const chunks: Buffer[] = [];
    made.a.on('data', (chunk: Buffer) => chunks.push(chunk));
    await peer.writeText(made.client, 'late');
    await until(
      'all bytes arrive',
      () => Buffer.concat(chunks).toString(),
      (text) => text === 'earlylate',
    );
    made.a.write('answer');
    t.is(await peer.readText(made.client, 6), 'answer');
  };
  return { ...made, works };
}

const WRONG_TYPES: [string, unknown][] = [
  ['undefined', undefined],
  ['null', null],
  ['a string', '/dev/null'],
  ['a boolean', true],
  ['a bigint', 1n],
  ['an object', {}],
  ['an array', []],
  ['a function', () => {}],
  ['a Readable', Readable.from([])],
  ['a Writable', new Writable()],
  ['a listening server', net.createServer()],
  ['a UDP socket', createSocket('udp4').unref()],
  ['a web stream', new ReadableStream()],
];

for (const [name, value] of WRONG_TYPES) {
  test(`${name} is rejected as either end, and the other end keeps working`, async (t) => {
    const { a, works } = await bystander(t);
    for (const reject of [true, false]) {
      const first = await mistake(t, () => relay(value as never, a, { reject }));
      t.is(first.code, 'ERR_INVALID_ARG_TYPE');
      t.true(first instanceof TypeError);
      t.regex(first.message, /["'`]a["'`]/);
      const second = await mistake(t, () => relay(a, value as never, { reject }));
      t.is(second.code, 'ERR_INVALID_ARG_TYPE');
      t.regex(second.message, /["'`]b["'`]/);
    }
    await works();
  });
}

test('the error for a web stream names the function that wraps it', async (t) => {
  const { a } = await bystander(t);
  const error = await mistake(t, () => relay(a, new ReadableStream() as never));
  t.regex(error.message, /Readable\.fromWeb/);
});

test('a FileHandle is rejected as an end of a relay', async (t) => {
  const { a, works } = await bystander(t);
  const handle = await open('/dev/null', 'r+');
  t.teardown(() => handle.close());
  t.is((await mistake(t, () => relay(a, handle as never))).code, 'ERR_INVALID_ARG_TYPE');
  await works();
});

nativeTest('the same socket or descriptor number on both sides is rejected', async (t) => {
  const { a, works } = await bystander(t);
  for (const reject of [true, false]) {
    t.is((await mistake(t, () => relay(a, a, { reject }))).code, 'ERR_INVALID_ARG_VALUE');
    const fd = descriptorOf(a);
    t.is((await mistake(t, () => relay(fd, fd, { reject }))).code, 'ERR_INVALID_ARG_VALUE');
    t.is((await mistake(t, () => copy(a, a, { reject }))).code, 'ERR_INVALID_ARG_VALUE');
  }
  await works();
});

test.serial('the number of a closed descriptor is rejected with EBADF', async (t) => {
  const { a, works } = await bystander(t);
  const fd = openSync('/dev/null', 'r+');
  closeSync(fd);
  for (const reject of [true, false]) {
    // A closed FileHandle has the descriptor number -1.
    for (const number of [fd, -1]) {
      t.is((await mistake(t, () => relay(a, number, { reject }))).code, 'EBADF');
      t.is((await mistake(t, () => relay(number, a, { reject }))).code, 'EBADF');
    }
  }
  await works();
});

for (const number of [-2, 1.5, NaN, Infinity, 2 ** 31]) {
  test(`${number} is rejected as a descriptor`, async (t) => {
    const { a, works } = await bystander(t);
    const error = await mistake(t, () => relay(a, number));
    t.is(error.code, 'ERR_OUT_OF_RANGE');
    t.true(error instanceof RangeError);
    await works();
  });
}

nativeTest('the descriptor number of a listening socket is rejected', async (t) => {
  const { a, works } = await bystander(t);
  const server = net.createServer();
  t.teardown(() => void server.close());
  const fd = await opened(async () => {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
  });
  t.is((await mistake(t, () => relay(a, fd))).code, 'ERR_INVALID_ARG_VALUE');
  t.is((await mistake(t, () => relay(fd, a, { reject: false }))).code, 'ERR_INVALID_ARG_VALUE');
  await works();
  // The server still listens.
  const { port } = server.address() as net.AddressInfo;
  const visitor = net.connect(port, '127.0.0.1');
  await once(visitor, 'connect');
  visitor.destroy();
});

nativeTest('the descriptor number of a UDP socket is rejected', async (t) => {
  const { a, works } = await bystander(t);
  const socket = createSocket('udp4');
  t.teardown(() => socket.close());
  const fd = await opened(async () => {
    socket.bind(0, '127.0.0.1');
    await once(socket, 'listening');
  });
  t.is((await mistake(t, () => relay(a, fd))).code, 'ERR_INVALID_ARG_VALUE');
  t.is((await mistake(t, () => relay(fd, a))).code, 'ERR_INVALID_ARG_VALUE');
  await works();
  const message = once(socket, 'message') as Promise<[Buffer]>;
  socket.send('ping', socket.address().port, '127.0.0.1');
  t.is((await message)[0].toString(), 'ping');
});

nativeTest('the descriptor number of a directory is rejected', async (t) => {
  const { a, works } = await bystander(t);
  const fd = openSync('/', 'r');
  t.teardown(() => closeSync(fd));
  t.is((await mistake(t, () => relay(a, fd))).code, 'ERR_INVALID_ARG_VALUE');
  await works();
});

test('a socket with an encoding is rejected', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client } = await pair(t, peer);
  a.setEncoding('utf8');
  t.is((await mistake(t, () => relay(a, b))).code, 'ERR_INVALID_ARG_VALUE');
  t.is((await mistake(t, () => relay(b, a))).code, 'ERR_INVALID_ARG_VALUE');
  a.write('still here');
  t.is(await peer.readText(client, 10), 'still here');
});

const WRONG_OPTIONS: [string, unknown, string][] = [
  ['signal', {}, 'ERR_INVALID_ARG_TYPE'],
  ['signal', new EventTarget(), 'ERR_INVALID_ARG_TYPE'],
  ['rateLimit', Promise.resolve(1024), 'ERR_INVALID_ARG_TYPE'],
  ['rateLimit', new Map(), 'ERR_INVALID_ARG_TYPE'],
  ['zeroCopy', 1, 'ERR_INVALID_ARG_TYPE'],
  ['pipeSize', '65536', 'ERR_INVALID_ARG_TYPE'],
  ['pipeSize', 0, 'ERR_OUT_OF_RANGE'],
  ['pipeSize', -1, 'ERR_OUT_OF_RANGE'],
  ['pipeSize', 1.5, 'ERR_OUT_OF_RANGE'],
  ['pipeSize', NaN, 'ERR_OUT_OF_RANGE'],
  ['reject', 'no', 'ERR_INVALID_ARG_TYPE'],
  ['headFromA', 'text', 'ERR_INVALID_ARG_TYPE'],
  ['headFromB', [1, 2], 'ERR_INVALID_ARG_TYPE'],
  ['bufferSize', 1024, 'ERR_INVALID_ARG_VALUE'],
];

for (const [name, value, code] of WRONG_OPTIONS) {
  test(`the option ${name}: ${String(value)} is rejected, and the error names it`, async (t) => {
    const { a, b, works } = await bystander(t);
    const error = await mistake(t, () => relay(a, b, { [name]: value }));
    t.is(error.code, code);
    t.regex(error.message, new RegExp(`\\b${name}\\b`));
    await works();
    t.false(b.destroyed);
  });
}

for (const options of [null, 7, 'fast', []]) {
  test(`${JSON.stringify(options)} is rejected as options`, async (t) => {
    const { a, b, works } = await bystander(t);
    t.is((await mistake(t, () => relay(a, b, options as never))).code, 'ERR_INVALID_ARG_TYPE');
    await works();
  });
}

test('an option that is undefined counts as absent', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer);
  const transfer = relay(a, b, {
    signal: undefined,
    pipeSize: undefined,
    headFromA: undefined,
    zeroCopy: undefined,
    rateLimit: { tx: undefined, rx: undefined },
  });
  await peer.shutdown(client);
  await peer.shutdown(origin);
  t.is((await transfer).error, null);
});

test('a socket in a relay is rejected by another transfer', async (t) => {
  const peer = Peer.start(t);
  const first = await pair(t, peer);
  const second = await pair(t, peer);
  const transfer = relay(first.a, first.b);
  for (const call of [
    () => relay(first.a, second.b),
    () => relay(second.a, first.b),
    () => copy(first.a, second.b),
  ]) {
    t.regex((await mistake(t, call)).code ?? '', /^ERR_INVALID_(ARG_VALUE|STATE)$/);
  }
  await peer.writeText(first.client, 'hello');
  t.is(await peer.readText(first.origin, 5), 'hello');
  await peer.shutdown(first.client);
  await peer.shutdown(first.origin);
  t.like(await transfer, { tx: 5, rx: 0 });
  t.false(second.a.destroyed || second.b.destroyed);
});

for (const [name, value, code] of [
  ['length', -1, 'ERR_OUT_OF_RANGE'],
  ['length', 1.5, 'ERR_OUT_OF_RANGE'],
  ['length', NaN, 'ERR_OUT_OF_RANGE'],
  ['length', '5', 'ERR_INVALID_ARG_TYPE'],
  ['head', 'text', 'ERR_INVALID_ARG_TYPE'],
  ['endDestination', 1, 'ERR_INVALID_ARG_TYPE'],
  ['headFromA', Buffer.from('x'), 'ERR_INVALID_ARG_VALUE'],
  ['start', 0, 'ERR_INVALID_ARG_VALUE'],
] as const) {
  test(`a copy between sockets rejects ${name}: ${String(value)}`, async (t) => {
    const { a, b, works } = await bystander(t);
    const error = await mistake(t, () => copy(a, b, { [name]: value }));
    t.is(error.code, code);
    t.regex(error.message, new RegExp(`\\b${name}\\b`));
    await works();
    t.false(b.destroyed);
  });
}

test('the errors of copy name its ends source and destination', async (t) => {
  const { a, works } = await bystander(t);
  t.regex((await mistake(t, () => copy({} as never, a))).message, /\bsource\b/);
  t.regex((await mistake(t, () => copy(a, {} as never))).message, /\bdestination\b/);
  await works();
});
