// Relays between descriptors given as numbers: the caller owns them, so a relay passes on clean ends only and closes nothing.
import { fstatSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

import ava from 'ava';
import { relay } from 'fdsplice';

import { descriptorOf } from '../helpers/descriptors.js';
import { coreTest as test } from '../helpers/engine.js';
import { failure } from '../helpers/failure.js';
import { nothingIsLeft } from '../helpers/left.js';
import { pair } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';
import { steady } from '../helpers/wait.js';

nothingIsLeft(ava, 'behind all tests');

const MiB = 1 << 20;

for (const transport of ['tcp', 'unix'] as const) {
  test(`${transport}: numbers are relayed, a clean end is passed on, and neither is closed`, async (t) => {
    const peer = Peer.start(t);
    const { a, b, client, origin } = await pair(t, peer, transport, { untouched: true });
    const numbers = [descriptorOf(a), descriptorOf(b)] as const;
    const transfer = relay(...numbers);
    const reading = peer.readToEnd(origin);
    const sent = await peer.write(client, 20 * MiB, 1);
    await peer.shutdown(client);
    t.deepEqual(await reading, { ...sent, end: 'eof' });
    const back = peer.readToEnd(client);
    const answer = await peer.write(origin, 20 * MiB, 2);
    await peer.shutdown(origin);
    t.deepEqual(await back, { ...answer, end: 'eof' });
    t.like(await transfer, { tx: 20 * MiB, rx: 20 * MiB, engine: 'native', error: null });
    for (const fd of numbers) {
      t.true(fstatSync(fd).isSocket());
    }
    t.false(a.destroyed || b.destroyed);
  });

  test(`${transport}: both numbers stay usable after an abort`, async (t) => {
    const peer = Peer.start(t);
    const { a, b, client, origin } = await pair(t, peer, transport, { untouched: true });
    const transfer = relay(descriptorOf(a), descriptorOf(b));
    await peer.writeText(client, 'hello');
    t.is(await peer.readText(origin, 5), 'hello');
    transfer.abort();
    t.like(await failure(t, transfer), { code: 'ABORT_ERR', traffic: { tx: 5, rx: 0, total: 5 } });
    a.write('to client');
    b.write('to origin');
    t.is(await peer.readText(client, 9), 'to client');
    t.is(await peer.readText(origin, 9), 'to origin');
  });
}

test('a relay between a number and a socket destroys only the socket', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer, 'tcp', { untouched: true });
  const transfer = relay(descriptorOf(a), b);
  await peer.writeText(client, 'hello');
  t.is(await peer.readText(origin, 5), 'hello');
  await peer.shutdown(client);
  await peer.shutdown(origin);
  t.like(await transfer, { tx: 5, rx: 0 });
  t.true(b.destroyed);
  t.false(a.destroyed);
  t.true(fstatSync(descriptorOf(a)).isSocket());
});

for (const [role, other, side] of [
  ['client', 'origin', 'a'],
  ['origin', 'client', 'b'],
] as const) {
  test(`a reset by the ${role} is in the result and is not passed on to the number of the ${other}`, async (t) => {
    const peer = Peer.start(t);
    const made = await pair(t, peer, 'tcp', { untouched: true });
    const transfer = relay(descriptorOf(made.a), descriptorOf(made.b));
    await peer.reset(made[role]);
    t.like(await failure(t, transfer), { code: 'ECONNRESET', side });
    await sleep(100);
    const socket = other === 'client' ? made.a : made.b;
    socket.write('your turn');
    t.is(await peer.readText(made[other], 9), 'your turn');
  });
}

test('an abort does not reset a blocked number', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer, 'tcp', { untouched: true });
  const transfer = relay(descriptorOf(a), descriptorOf(b));
  peer.write(client, 1 << 30, 1).catch(() => {});
  await steady('the writer blocks', () => peer.counts(client).then(({ sent }) => sent));
  transfer.abort();
  const { traffic } = await failure(t, transfer);
  // Every accepted byte still arrives; a reset would discard them.
  b.end();
  t.deepEqual(await peer.readToEnd(origin), {
    bytes: traffic.tx,
    sha256: await peer.hash(1, traffic.tx),
    end: 'eof',
  });
});
