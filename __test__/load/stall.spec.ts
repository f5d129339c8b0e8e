// Stalled readers and idle relays: backpressure reaches the sender, and a relay that waits costs no CPU and no memory.
import { setTimeout as sleep } from 'node:timers/promises';

import test from 'ava';
import { relay } from 'fdsplice';

import { nothingIsLeft } from '../helpers/left.js';
import { pair } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';
import { steady } from '../helpers/wait.js';

nothingIsLeft(test, 'behind each test');

const MiB = 1 << 20;

/** A busy loop would use a whole processor, so the limit has a wide margin for a loaded machine. */
const IDLE_CPU_MS = 400;

/** CPU time of all threads of this process while a promise is pending. */
async function cpuDuring(promise: Promise<unknown>): Promise<number> {
  const start = process.cpuUsage();
  await promise;
  const { user, system } = process.cpuUsage(start);
  return (user + system) / 1000;
}

for (const transport of ['tcp', 'unix'] as const) {
  test.serial(`${transport}: a reader that pauses for 3 s costs no CPU and no memory`, async (t) => {
    const peer = Peer.start(t);
    const { a, b, client, origin } = await pair(t, peer, transport);
    const transfer = relay(a, b);
    const bytes = 256 * MiB;
    const writing = peer.write(client, bytes, 1);
    const blocked = () => peer.counts(client).then(({ sent }) => sent);
    const before = await steady('the writer blocks', blocked);
    t.true(before < bytes);

    const memory = process.memoryUsage.rss();
    const cpu = await cpuDuring(sleep(3000));
    const growth = process.memoryUsage.rss() - memory;
    t.log(`${cpu} ms of CPU, ${growth} bytes of memory`);
    t.true(cpu < IDLE_CPU_MS, `${cpu} ms of CPU`);
    t.true(growth < 16 * MiB, `${growth} bytes`);
    // Backpressure has reached the sender.
    t.is(await blocked(), before);

    const reading = peer.readToEnd(origin);
    const sent = await writing;
    await peer.shutdown(client);
    t.deepEqual(await reading, { ...sent, end: 'eof' });
    await peer.shutdown(origin);
    t.like(await transfer, { tx: bytes, rx: 0 });
  });

  test.serial(`${transport}: a stalled direction does not block the other`, async (t) => {
    const peer = Peer.start(t);
    const { a, b, client, origin } = await pair(t, peer, transport);
    const transfer = relay(a, b);
    const writing = peer.write(client, 64 * MiB, 1);
    await steady('the writer blocks', () => peer.counts(client).then(({ sent }) => sent));
    const reading = peer.read(client, 64 * MiB);
    t.deepEqual(await peer.write(origin, 64 * MiB, 2), await reading);

    const rest = peer.readToEnd(origin);
    const sent = await writing;
    await peer.shutdown(client);
    t.deepEqual(await rest, { ...sent, end: 'eof' });
    await peer.shutdown(origin);
    t.like(await transfer, { tx: 64 * MiB, rx: 64 * MiB });
  });

  test.serial(`${transport}: idle and half-closed relays cost no CPU`, async (t) => {
    const peer = Peer.start(t);
    const [idle, half] = await Promise.all([pair(t, peer, transport), pair(t, peer, transport)]);
    const transfers = [relay(idle.a, idle.b), relay(half.a, half.b)];
    await peer.writeText(idle.client, 'hello');
    await peer.readText(idle.origin, 5);
    await peer.shutdown(half.client);
    t.is((await peer.readToEnd(half.origin)).end, 'eof');

    const cpu = await cpuDuring(sleep(2000));
    t.log(`${cpu} ms of CPU`);
    t.true(cpu < IDLE_CPU_MS, `${cpu} ms of CPU`);

    for (const conn of [idle.client, idle.origin, half.origin]) {
      await peer.shutdown(conn);
    }
    t.deepEqual(
      (await Promise.all(transfers)).map(({ total }) => total),
      [5, 0],
    );
  });
}
