// Connections as ends of relay, copy and sendFile: who owns them, and which uses are refused.
import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { PassThrough, Readable } from 'node:stream';

import test from 'ava';
import { connect, type Connection, copy, relay, sendFile, type Transfer, type TransferError } from 'fdsplice';

import { engine } from '../helpers/engine.js';
import { nothingIsLeft } from '../helpers/left.js';
import { directory, echo, sha256 } from '../helpers/local-peers.js';
import { Peer } from '../helpers/peer.js';
import { until, within } from '../helpers/wait.js';
import { accepted, endingAt, made } from './made.js';

nothingIsLeft(test, 'behind each test');

const MiB = 1 << 20;

for (const transport of ['tcp', 'unix'] as const) {
  for (const side of ['a', 'b'] as const) {
    test.serial(`a ${transport} connection is end ${side} of a relay, which closes it cleanly`, async (t) => {
      const peer = Peer.start(t);
      const { connection, far } = await made(t, peer, transport);
      const { socket, client } = await accepted(t, peer);
      const transfer = side === 'a' ? relay(connection, socket) : relay(socket, connection);
      await Promise.all([
        peer.write(client, 8 * MiB, 1).then(() => peer.shutdown(client)),
        peer.write(far, 3 * MiB, 2).then(() => peer.shutdown(far)),
        peer.readToEnd(far).then((ending) => t.like(ending, { bytes: 8 * MiB, end: 'eof' })),
        peer.readToEnd(client).then((ending) => t.like(ending, { bytes: 3 * MiB, end: 'eof' })),
      ]);
      const [tx, rx] = side === 'b' ? [8 * MiB, 3 * MiB] : [3 * MiB, 8 * MiB];
      t.like(await within(20_000, 'the relay ends', transfer), { tx, rx, engine, error: null });
    });
  }
}

test.serial(
  'both ends of a relay are connections, and one direction stays open after the other',
  async (t) => {
    const peer = Peer.start(t);
    const [one, two] = [await made(t, peer), await made(t, peer)];
    const transfer = relay(one.connection, two.connection);
    await peer.writeText(one.far, 'request');
    await peer.shutdown(one.far);
    t.like(await peer.readToEnd(two.far), { bytes: 7, end: 'eof' });
    await peer.writeText(two.far, 'answer');
    t.is(await peer.readText(one.far, 6), 'answer');
    await peer.shutdown(two.far);
    t.is(await endingAt(peer, one.far), 'eof');
    t.like(await transfer, { tx: 7, rx: 6, total: 13, error: null, engine });
  },
);

test.serial('heads for and from a connection are delivered first', async (t) => {
  const peer = Peer.start(t);
  const { connection, far } = await made(t, peer);
  const { socket, client } = await accepted(t, peer);
  const transfer = relay(socket, connection, {
    headFromA: Buffer.from('to target, '),
    headFromB: Buffer.from('to client, '),
  });
  await peer.writeText(client, 'and on');
  await peer.writeText(far, 'and back');
  t.is(await peer.readText(far, 17), 'to target, and on');
  t.is(await peer.readText(client, 19), 'to client, and back');
  await Promise.all([peer.shutdown(client), peer.shutdown(far)]);
  t.like(await transfer, { tx: 17, rx: 19 });
});

test.serial('copy and sendFile leave a connection to the caller, who uses it again', async (t) => {
  const connection = await connect(await echo(t));
  t.teardown(() => connection.reset());
  const folder = await directory(t);
  const bytes = randomBytes(2 * MiB);
  await writeFile(`${folder}/sent`, bytes);
  t.like(await sendFile(`${folder}/sent`, connection, { start: 0, end: MiB - 1 }), { tx: MiB, engine });
  t.like(await copy(`${folder}/sent`, connection, { start: MiB }), { tx: MiB, engine });
  t.like(await copy(connection, `${folder}/back`, { length: 1000 }), { tx: 1000, engine });
  const rest = new PassThrough({ highWaterMark: 4 * MiB });
  t.like(await copy(connection, rest, { length: 2 * MiB - 1000, endDestination: true }), {
    tx: 2 * MiB - 1000,
  });
  const received = Buffer.concat([await readFile(`${folder}/back`), ...((await rest.toArray()) as Buffer[])]);
  t.is(sha256(received), sha256(bytes));
});

test.serial(
  'endDestination ends a connection for writing, and it can still be read and relayed',
  async (t) => {
    const peer = Peer.start(t);
    const { connection, far } = await made(t, peer);
    const { socket, client } = await accepted(t, peer);
    const source = Readable.from([Buffer.from('all')], { objectMode: false });
    t.like(await copy(source, connection, { endDestination: true }), { tx: 3 });
    t.like(await peer.readToEnd(far), { bytes: 3, end: 'eof' });
    const again = copy(Readable.from([Buffer.from('more')], { objectMode: false }), connection);
    t.like(await t.throwsAsync(again), { code: 'ERR_STREAM_WRITE_AFTER_END', side: 'destination' });
    const transfer = relay(socket, connection);
    await peer.writeText(far, 'answer');
    t.is(await peer.readText(client, 6), 'answer');
    await Promise.all([peer.shutdown(client), peer.shutdown(far)]);
    t.like(await transfer, { tx: 0, rx: 6, error: null });
  },
);

test.serial('endDestination of a copy in the kernel ends a connection for writing too', async (t) => {
  const peer = Peer.start(t);
  const { connection, far } = await made(t, peer);
  const { socket, client } = await accepted(t, peer);
  const folder = await directory(t);
  await writeFile(`${folder}/sent`, 'all');
  t.like(await sendFile(`${folder}/sent`, connection, { endDestination: true }), { tx: 3, engine });
  t.like(await peer.readToEnd(far), { bytes: 3, end: 'eof' });
  t.like(await t.throwsAsync(sendFile(`${folder}/sent`, connection)), { code: 'ERR_STREAM_WRITE_AFTER_END' });
  const transfer = relay(connection, socket);
  await peer.writeText(far, 'answer');
  t.is(await peer.readText(client, 6), 'answer');
  await Promise.all([peer.shutdown(client), peer.shutdown(far)]);
  t.like(await transfer, { tx: 6, rx: 0, error: null });
});

test.serial(
  'bytes that a failed copy did not deliver are the first that the next transfer reads',
  async (t) => {
    const peer = Peer.start(t);
    const { connection, far } = await made(t, peer);
    const { socket: full, client } = await accepted(t, peer);
    // The destination takes what fits into its buffers. The copy holds more when it is aborted.
    const first = copy(connection, full, { reject: false });
    const writing = peer.write(far, 32 * MiB, 7);
    await until(
      'the copy is blocked',
      () => first.traffic.tx,
      (tx) => tx > 0,
    );
    let last = -1;
    await until(
      'nothing moves',
      async () => {
        const { tx } = first.traffic;
        const isSame = tx === last;
        last = tx;
        await new Promise((resolve) => setTimeout(resolve, 300));
        return isSame;
      },
      Boolean,
    );
    first.abort();
    const { tx, error } = await first;
    t.like(error, { code: 'ABORT_ERR' });
    t.is(error?.undelivered, undefined);
    t.true(tx < 32 * MiB);
    const reading = peer.readToEnd(client);
    const second = copy(connection, full, { endDestination: true });
    await writing;
    await peer.shutdown(far);
    t.is(tx + (await within(60_000, 'the rest is copied', second)).tx, 32 * MiB);
    t.like(await reading, { bytes: 32 * MiB, end: 'eof', sha256: await peer.hash(7, 32 * MiB) });
  },
);

type Use = (connection: Connection) => Transfer;

const uses: Use[] = [
  (connection) => relay(connection, new PassThrough()),
  (connection) => copy(connection, new PassThrough()),
  (connection) => copy(new PassThrough(), connection),
  (connection) => sendFile('/etc/hostname', connection),
];

/** The errors of all uses of a connection. */
async function refusals(connection: Connection): Promise<TransferError[]> {
  const errors: TransferError[] = [];
  for (const use of uses) {
    await use(connection).then(
      () => errors.push(new Error('it was not refused') as TransferError),
      (error: TransferError) => errors.push(error),
    );
  }
  return errors;
}

test.serial(
  'a connection that a copy uses fails another transfer with ERR_INVALID_STATE, which harms neither',
  async (t) => {
    const peer = Peer.start(t);
    const { connection, far } = await made(t, peer);
    const folder = await directory(t);
    const running = copy(connection, `${folder}/file`);
    for (const error of await refusals(connection)) {
      t.like(error, { name: 'TransferError', code: 'ERR_INVALID_STATE' }, String(error));
      t.true(['a', 'source', 'destination'].includes(error.side ?? ''));
    }
    await peer.writeText(far, 'hello');
    await peer.shutdown(far);
    t.like(await running, { tx: 5, error: null });
  },
);

test.serial(
  'a connection that a relay has taken over fails with ERR_INVALID_STATE, also afterwards',
  async (t) => {
    const peer = Peer.start(t);
    const { connection, far } = await made(t, peer);
    const { socket, client } = await accepted(t, peer);
    const transfer = relay(socket, connection);
    for (const error of await refusals(connection)) t.like(error, { code: 'ERR_INVALID_STATE' });
    await peer.writeText(client, 'hello');
    t.is(await peer.readText(far, 5), 'hello');
    await Promise.all([peer.shutdown(client), peer.shutdown(far)]);
    t.like(await transfer, { tx: 5, error: null });
    for (const error of await refusals(connection)) t.like(error, { code: 'ERR_INVALID_STATE' });
    connection.close();
    const result = await relay(connection, new PassThrough(), { reject: false });
    t.like(result.error, { code: 'ERR_INVALID_STATE', side: 'a' });
  },
);

test.serial(
  'a closed connection fails with ERR_STREAM_DESTROYED, and a relay resets the other end',
  async (t) => {
    const peer = Peer.start(t);
    const { connection } = await made(t, peer);
    connection.close();
    for (const error of await refusals(connection)) t.like(error, { code: 'ERR_STREAM_DESTROYED' });
    const { socket, client } = await accepted(t, peer);
    t.like(await t.throwsAsync(relay(socket, connection)), { code: 'ERR_STREAM_DESTROYED', side: 'b' });
    t.is(await endingAt(peer, client), 'reset');
  },
);

test.serial('one connection as both ends is a mistake that takes nothing over', async (t) => {
  const peer = Peer.start(t);
  const { connection, far } = await made(t, peer);
  for (const use of [relay, copy]) {
    const error = await t.throwsAsync(use(connection, connection));
    t.like(error, { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE' });
  }
  const { socket, client } = await accepted(t, peer);
  await t.throwsAsync(relay(connection, 'nothing' as never), { code: 'ERR_INVALID_ARG_TYPE' });
  const transfer = relay(connection, socket);
  await Promise.all([peer.shutdown(client), peer.shutdown(far)]);
  t.like(await transfer, { total: 0, error: null });
});
