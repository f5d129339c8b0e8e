// Listeners and methods of the caller that throw while a transfer calls them, and streams that emit what is no error: the
// transfer fails with what was thrown as its cause, its ends are left as the contract says, and nothing is thrown to the
// caller or to the process.
import { once } from 'node:events';
import net from 'node:net';
import { type Duplex, PassThrough, Writable } from 'node:stream';

import test, { type ExecutionContext } from 'ava';
import { copy, relay, stats, type TrafficResult, type Transfer } from 'fdsplice';

import { nativeTest } from '../helpers/engine.js';
import { nothingIsLeft } from '../helpers/left.js';
import { until, within } from '../helpers/wait.js';

nothingIsLeft(test, 'behind each test');

const FAILING = { reject: false } as const;

function thrower(message: string): () => never {
  return () => {
    throw new Error(message);
  };
}

/** A server that accepts connections without reading from them; `meet` returns both ends of one. */
async function listening(t: ExecutionContext): Promise<{
  port: number;
  meet: () => Promise<{ outer: net.Socket; inner: net.Socket }>;
}> {
  const server = net.createServer({ pauseOnConnect: true, allowHalfOpen: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const sockets: net.Socket[] = [];
  t.teardown(() => {
    for (const socket of sockets)
      socket
        .removeAllListeners()
        .on('error', () => {})
        .destroy();
    server.close();
  });
  const { port } = server.address() as net.AddressInfo;
  const meet = async () => {
    const outer = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true }).on('error', () => {});
    const [[inner]] = (await Promise.all([once(server, 'connection'), once(outer, 'connect')])) as [
      [net.Socket],
      unknown,
    ];
    sockets.push(outer, inner);
    return { outer, inner };
  };
  return { port, meet };
}

/** Whether a stream has the methods of its class again, without those that the test has replaced itself. */
function isRestored(stream: object, ...replaced: string[]): boolean {
  const ofClass = Object.getPrototypeOf(stream) as Record<string, unknown>;
  return ['write', 'end', 'emit', 'cork', '_read']
    .filter((key) => !replaced.includes(key))
    .every((key) => (stream as Record<string, unknown>)[key] === ofClass[key]);
}

/** The failure of a transfer that is started by `start`, which must not throw. */
async function failure(t: ExecutionContext, start: () => Transfer): Promise<TrafficResult['error']> {
  let transfer: Transfer | undefined;
  t.notThrows(() => (transfer = start()));
  const { error } = await within(20_000, 'the transfer ends', transfer as Transfer);
  await until(
    'no transfer is active',
    () => stats().active,
    (active) => active === 0,
  );
  return error;
}

for (const event of ['pause', 'newListener']) {
  test.serial(
    `a '${event}' listener that throws fails a relay of sockets, which destroys both`,
    async (t) => {
      const { port, meet } = await listening(t);
      for (const state of ['connected', 'connecting']) {
        for (const which of [0, 1]) {
          const { inner: a } = await meet();
          const b =
            state === 'connected'
              ? (await meet()).inner
              : net.connect({ port, host: '127.0.0.1' }).on('error', () => {});
          const thrower = which === 0 ? a : b;
          thrower.resume().on(event, () => {
            throw new Error('on purpose');
          });
          const error = await failure(t, () => relay(a, b, FAILING));
          t.like(error, { code: 'ABORT_ERR', cause: { message: 'on purpose' } }, `${state} ${which}`);
          t.true([a, b].every((socket) => socket.destroyed && isRestored(socket)));
        }
      }
    },
  );

  test.serial(`a '${event}' listener that throws fails a copy, which gives both ends back`, async (t) => {
    const { meet } = await listening(t);
    const [{ outer, inner: source }, { inner: destination }] = [await meet(), await meet()];
    const chunks: Buffer[] = [];
    source.on('data', (chunk: Buffer) => chunks.push(chunk)).resume();
    const listener = thrower('on purpose');
    source.on(event, listener);
    const error = await failure(t, () => copy(source, destination, FAILING));
    t.like(error, { code: 'ABORT_ERR', cause: { message: 'on purpose' } });
    source.off(event, listener);
    t.true([source, destination].every((socket) => !socket.destroyed && isRestored(socket)));
    // The source still works in Node.
    outer.write('hello');
    await until(
      'the bytes arrive',
      () => Buffer.concat(chunks).toString(),
      (text) => text === 'hello',
    );
  });
}

test.serial('a listener or method that throws fails a relay of streams, which destroys both', async (t) => {
  const { meet } = await listening(t);
  const changes: Record<string, (stream: PassThrough) => unknown> = {
    pause: (stream) => stream.resume().on('pause', thrower('on purpose')),
    newListener: (stream) => stream.on('newListener', thrower('on purpose')),
  };
  for (const [name, change] of Object.entries(changes)) {
    for (const which of [0, 1]) {
      const { inner } = await meet();
      const stream = new PassThrough();
      change(stream);
      const ends: [Duplex, Duplex] = which === 0 ? [stream, inner] : [inner, stream];
      const error = await failure(t, () => relay(...ends, FAILING));
      t.like(error, { code: 'ABORT_ERR', cause: { message: 'on purpose' } }, name);
      t.true(
        ends.every((end) => end.destroyed && isRestored(end)),
        name,
      );
    }
  }
});

test.serial('a listener or method that throws fails a copy of streams, which gives both back', async (t) => {
  type Ends = [source: PassThrough, destination: PassThrough];
  const changes: Record<string, (...ends: Ends) => unknown> = {
    'off of the source': (source) => (source.off = thrower('on purpose')),
    'off of the destination': (_, destination) => (destination.off = thrower('on purpose')),
    'write of the destination': (_, destination) => (destination.write = thrower('on purpose')),
    'end of the destination': (_, destination) => (destination.end = thrower('on purpose')),
    "a 'finish' listener added": (_, destination) =>
      destination.on('newListener', (event) => event === 'finish' && thrower('on purpose')()),
  };
  for (const [name, change] of Object.entries(changes)) {
    const [source, destination]: Ends = [new PassThrough(), new PassThrough()];
    source.end('hello');
    change(source, destination);
    const error = await failure(t, () => copy(source, destination, { ...FAILING, endDestination: true }));
    t.like(error, { code: 'ABORT_ERR', cause: { message: 'on purpose' } }, name);
    t.true(isRestored(source) && isRestored(destination, 'write', 'end'), name);
  }
  const corked = new Writable({ write: thrower('on purpose') });
  corked.cork();
  corked.write('held');
  const error = await failure(t, () => copy(new PassThrough().end('hello'), corked, FAILING));
  t.like(error, { code: 'ABORT_ERR', cause: { message: 'on purpose' } });
});

// On streams Node itself calls destroy() at the end, and throws.
nativeTest('a destroy() that throws fails the relay, and the other end is destroyed', async (t) => {
  const { meet } = await listening(t);
  const [{ outer: client, inner: a }, { outer: origin, inner: b }] = [await meet(), await meet()];
  a.destroy = thrower('on purpose');
  client.end();
  origin.end();
  const error = await failure(t, () => relay(a, b, FAILING));
  t.like(error, { code: 'ABORT_ERR', cause: { message: 'on purpose' } });
  t.true(b.destroyed && isRestored(a));
  Reflect.deleteProperty(a, 'destroy');
  a.destroy();
});

test.serial('a value that is no error fails the transfer like an error', async (t) => {
  for (const value of [undefined, null, 'a text', 7]) {
    const source = new PassThrough();
    const emitted = failure(t, () => relay(source, new PassThrough(), FAILING));
    source.emit('error', value);
    t.like(await emitted, { code: 'ABORT_ERR', side: 'a' });
    const destination = new PassThrough();
    destination.write = () => {
      // eslint-disable-next-line @typescript-eslint/only-throw-error -- JavaScript can throw any value
      throw value;
    };
    const error = await failure(t, () => copy(new PassThrough().end('hello'), destination, FAILING));
    t.like(error, { code: 'ABORT_ERR', side: 'destination' });
  }
});
