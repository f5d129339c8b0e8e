// How relays and copies with a connection end early: the same for a connection as for a socket that was given over.
import { once } from 'node:events';
import { PassThrough } from 'node:stream';

import test from 'ava';
import { copy, relay } from 'fdsplice';

import { failure } from '../helpers/failure.js';
import { nothingIsLeft } from '../helpers/left.js';
import { Peer } from '../helpers/peer.js';
import { unanswered } from '../helpers/unanswered.js';
import { within } from '../helpers/wait.js';
import { accepted, endingAt, made } from './made.js';

nothingIsLeft(test, 'behind each test');

const endings = [
  ['abort()', { code: 'ABORT_ERR' }, ({ abort }) => abort()],
  ['close() of the connection', { code: 'ABORT_ERR', side: 'b' }, ({ connection }) => connection.close()],
  ['reset() of the connection', { code: 'ABORT_ERR', side: 'b' }, ({ connection }) => connection.reset()],
] as [string, object, (how: { abort: () => void; connection: { close(): void; reset(): void } }) => void][];

for (const [what, expected, end] of endings) {
  test.serial(`${what} ends a running relay, keeps the counts and resets both sides`, async (t) => {
    const peer = Peer.start(t);
    const { connection, far } = await made(t, peer);
    const { socket, client } = await accepted(t, peer);
    const transfer = relay(socket, connection);
    await peer.writeText(client, 'hello');
    t.is(await peer.readText(far, 5), 'hello');
    end({ abort: () => transfer.abort(), connection });
    const error = await failure(t, transfer);
    t.like(error, { ...expected, traffic: { tx: 5, rx: 0, total: 5 } });
    t.is(await endingAt(peer, far), 'reset');
    t.is(await endingAt(peer, client), 'reset');
  });
}

test.serial('a relay whose signal has aborted resets its connection', async (t) => {
  const peer = Peer.start(t);
  const { connection, far } = await made(t, peer);
  const { socket } = await accepted(t, peer);
  const transfer = relay(connection, socket, { signal: AbortSignal.abort() });
  t.like(await failure(t, transfer), { code: 'ABORT_ERR' });
  t.is(await endingAt(peer, far), 'reset');
});

test.serial('a relay whose other end was destroyed resets its connection', async (t) => {
  const peer = Peer.start(t);
  const { connection, far } = await made(t, peer);
  const { socket } = await accepted(t, peer);
  socket.destroy();
  t.like(await failure(t, relay(connection, socket)), { code: 'ERR_STREAM_DESTROYED', side: 'b' });
  t.is(await endingAt(peer, far), 'reset');
});

test.serial('a reset by the target ends the relay on its side and resets the client', async (t) => {
  const peer = Peer.start(t);
  const { connection, far } = await made(t, peer);
  const { socket, client } = await accepted(t, peer);
  const transfer = relay(socket, connection);
  await peer.writeText(far, 'last words');
  t.is(await peer.readText(client, 10), 'last words');
  await peer.reset(far);
  t.like(await failure(t, transfer), {
    code: 'ECONNRESET',
    side: 'b',
    traffic: { tx: 0, rx: 10, total: 10 },
  });
  t.is(await endingAt(peer, client), 'reset');
});

test.serial('a target that has reset before the relay ends it on its side', async (t) => {
  const peer = Peer.start(t);
  const { connection, far } = await made(t, peer);
  const { socket, client } = await accepted(t, peer);
  await peer.reset(far);
  t.like(await failure(t, relay(socket, connection)), { code: 'ECONNRESET', side: 'b' });
  t.is(await endingAt(peer, client), 'reset');
});

test.serial('an idle timeout resets both sides', async (t) => {
  const peer = Peer.start(t);
  const { connection, far } = await made(t, peer);
  const { socket, client } = await accepted(t, peer);
  t.like(await failure(t, relay(socket, connection, { idleTimeout: 100 })), { code: 'ERR_IDLE_TIMEOUT' });
  t.is(await endingAt(peer, far), 'reset');
  t.is(await endingAt(peer, client), 'reset');
});

test.serial('a half-close timeout names the side that is open and resets it', async (t) => {
  const peer = Peer.start(t);
  const { connection, far } = await made(t, peer);
  const { socket, client } = await accepted(t, peer);
  const transfer = relay(socket, connection, { halfCloseTimeout: 100 });
  await peer.shutdown(client);
  t.like(await failure(t, transfer), { code: 'ERR_HALF_CLOSE_TIMEOUT', side: 'b' });
  t.is(await endingAt(peer, far), 'eof');
  t.is(await endingAt(peer, client), 'reset');
});

test.serial('a reset of the connection is noticed while the other end still connects', async (t) => {
  const peer = Peer.start(t);
  const { connection, far } = await made(t, peer);
  const waiting = await unanswered(t, Peer.start(t));
  const transfer = relay(connection, waiting);
  await new Promise((resolve) => setTimeout(resolve, 100));
  await peer.reset(far);
  const error = await failure(t, transfer);
  t.like(error, { code: 'ECONNRESET', side: 'a' });
  if (!waiting.closed) await once(waiting, 'close');
});

for (const how of ['close', 'reset'] as const) {
  test.serial(`${how}() during a copy fails it with ABORT_ERR, and the peer sees the ${how}`, async (t) => {
    const peer = Peer.start(t);
    const { connection, far } = await made(t, peer);
    const transfer = copy(new PassThrough(), connection);
    connection[how]();
    t.like(await failure(t, transfer), { code: 'ABORT_ERR', side: 'destination' });
    t.is(await endingAt(peer, far), how === 'reset' ? 'reset' : 'eof');
    const closed = relay(connection, new PassThrough());
    t.like(await failure(t, closed), { code: 'ERR_STREAM_DESTROYED', side: 'a' });
  });

  test.serial(`${how}() during a copy in the kernel does the same`, async (t) => {
    const peer = Peer.start(t);
    const { connection, far } = await made(t, peer);
    const { socket } = await accepted(t, peer);
    const transfer = copy(connection, socket);
    await peer.writeText(far, 'hello');
    connection[how]();
    t.like(await failure(t, transfer), { code: 'ABORT_ERR', side: 'source' });
    // Unread bytes turn a close into a reset, too.
    const seen = await within(20_000, 'the peer sees the end', peer.readToEnd(far));
    t.true(seen.end === 'reset' || (how === 'close' && seen.end === 'eof'), seen.end);
  });
}

test.serial('an aborted copy leaves the connection to the caller', async (t) => {
  const peer = Peer.start(t);
  const { connection, far } = await made(t, peer);
  const { socket, client } = await accepted(t, peer);
  const first = copy(connection, new PassThrough());
  first.abort();
  t.like(await failure(t, first), { code: 'ABORT_ERR' });
  const transfer = relay(socket, connection);
  await peer.writeText(far, 'still here');
  t.is(await peer.readText(client, 10), 'still here');
  await Promise.all([peer.shutdown(client), peer.shutdown(far)]);
  t.like(await transfer, { rx: 10, error: null });
});
