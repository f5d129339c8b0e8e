// Out-of-band (urgent) bytes amid other traffic. They cut a read short although more data is waiting, and the kernel
// reports them as an event of their own, so they could stall a relay or make it spin.
import { setTimeout as sleep } from 'node:timers/promises';

import test from 'ava';
import { relay } from 'fdsplice';

import { nothingIsLeft } from '../helpers/left.js';
import { pair } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';

nothingIsLeft(test, 'behind each test');

const MiB = 1 << 20;
const URGENT = '!'.charCodeAt(0);

for (const [from, to] of [
  ['client', 'origin'],
  ['origin', 'client'],
] as const) {
  test.serial(`an out-of-band byte between messages from the ${from} delays no message`, async (t) => {
    const peer = Peer.start(t);
    const made = await pair(t, peer);
    const transfer = relay(made.a, made.b);
    await peer.writeText(made[from], 'ab');
    await peer.oob(made[from], URGENT);
    await peer.writeText(made[from], 'cd');
    t.is(await peer.readText(made[to], 4), 'abcd');
    await peer.writeText(made[from], 'ef');
    await peer.shutdown(made[from]);
    t.is(await peer.readText(made[to], 2), 'ef');
    await peer.shutdown(made[to]);
    t.is((await transfer).total, 6);
  });

  test.serial(`an out-of-band byte alone from the ${from} causes no busy loop`, async (t) => {
    const peer = Peer.start(t);
    const made = await pair(t, peer);
    const transfer = relay(made.a, made.b);
    await peer.writeText(made[from], 'ab');
    t.is(await peer.readText(made[to], 2), 'ab');
    await peer.oob(made[from], URGENT);

    const start = process.cpuUsage();
    await sleep(1500);
    const { user, system } = process.cpuUsage(start);
    t.true(user + system < 300_000, `${user + system} µs of CPU in 1.5 s`);

    await peer.writeText(made[from], 'cd');
    t.is(await peer.readText(made[to], 2), 'cd');
    await peer.shutdown(made[from]);
    await peer.shutdown(made[to]);
    t.is((await transfer).total, 4);
  });

  test.serial(`an out-of-band byte amid bulk from the ${from} loses no byte around it`, async (t) => {
    const peer = Peer.start(t);
    const made = await pair(t, peer);
    const transfer = relay(made.a, made.b);
    const bytes = 64 * MiB;
    const reading = peer.readToEnd(made[to]);
    // Not awaited in between: the byte must arrive while the relay is busy.
    void peer.write(made[from], bytes / 2, 9);
    void peer.oob(made[from], URGENT);
    void peer.write(made[from], bytes / 2, 9);
    await peer.shutdown(made[from]);
    t.deepEqual(await reading, { bytes, sha256: await peer.hash(9, bytes), end: 'eof' });
    await peer.shutdown(made[to]);
    t.is((await transfer).total, bytes);
  });

  test.serial(`an out-of-band byte before the end from the ${from} does not hide the end`, async (t) => {
    const peer = Peer.start(t);
    const made = await pair(t, peer);
    const transfer = relay(made.a, made.b);
    await peer.writeText(made[from], 'ab');
    await peer.oob(made[from], URGENT);
    await peer.shutdown(made[from]);
    t.like(await peer.readToEnd(made[to]), { bytes: 2, end: 'eof' });
    await peer.shutdown(made[to]);
    t.is((await transfer).total, 2);
  });
}
