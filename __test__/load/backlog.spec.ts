// Queues of connections that are full, on both sides of a gateway.
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';
import { join } from 'node:path';

import test from 'ava';
import { relay } from 'fdsplice';

import { directory, sha256 } from '../helpers/copy-files.js';
import { leavesNothing } from '../helpers/left.js';
import { crossing } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';
import { until } from '../helpers/wait.js';

const MiB = 1 << 20;
const SENT = randomBytes(100_000);

test.serial(
  'a Unix target whose backlog is full is EAGAIN at connect and a reset for the client; once there is room it works',
  async (t) => {
    const peer = Peer.start(t);
    const meet = await crossing(t, peer, 'tcp');
    const path = join(directory(t), 'target');
    const { listener } = await peer.listen({ path, backlog: 0 });
    await leavesNothing(t, async () => {
      // With a backlog of 0 there is room for one.
      const waiting = net.connect(path);
      await once(waiting, 'connect');
      for (let round = 0; round < 10; round += 1) {
        const { a, b, client, origin } = await meet();
        b.destroy();
        await peer.writeText(client, 'early');
        const { error, total } = await relay(a, net.connect(path), { reject: false });
        t.like(error, { code: 'EAGAIN', syscall: 'connect', side: 'b' });
        t.is(total, 0);
        t.is((await peer.readToEnd(client)).end, 'reset');
        await Promise.all([peer.close(client), peer.close(origin)]);
      }
      const { conn: first } = await peer.accept(listener);
      const { a, b, client, origin } = await meet();
      b.destroy();
      const transfer = relay(a, net.connect(path));
      const { conn: target } = await peer.accept(listener);
      const reading = peer.readToEnd(target);
      const sent = await peer.write(client, MiB, 1);
      await peer.shutdown(client);
      t.deepEqual(await reading, { ...sent, end: 'eof' });
      await peer.shutdown(target);
      t.like(await transfer, { tx: MiB, rx: 0 });
      waiting.destroy();
      await Promise.all([first, client, origin, target].map((conn) => peer.close(conn)));
    });
  },
);

test.serial(
  'a gateway whose own Unix backlog is full turns away who does not fit, and serves all the others',
  async (t) => {
    const peer = Peer.start(t);
    const where = directory(t);
    const target = join(where, 'target');
    const { listener } = await peer.listen({ path: target, backlog: 64 });
    await leavesNothing(t, async () => {
      const results: Promise<{ tx: number; error: unknown }>[] = [];
      const server = net.createServer({ pauseOnConnect: true, allowHalfOpen: true }, (client) => {
        results.push(relay(client, net.connect({ path: target, allowHalfOpen: true }), { reject: false }));
      });
      server.listen({ path: join(where, 'gateway'), backlog: 4 });
      await once(server, 'listening');
      // Within one turn of the event loop nothing is accepted.
      const clients = Array.from({ length: 40 }, () => net.connect(join(where, 'gateway')));
      const outcomes = await Promise.all(
        clients.map(
          (client) =>
            new Promise<string>((resolve) =>
              client
                .once('connect', () => resolve('connected'))
                .once('error', (error: NodeJS.ErrnoException) => resolve(String(error.code))),
            ),
        ),
      );
      const inside = clients.filter((_, index) => outcomes[index] === 'connected');
      t.deepEqual(
        outcomes.filter((outcome) => outcome !== 'connected'),
        Array<string>(35).fill('EAGAIN'),
      );
      t.is(inside.length, 5);
      for (const client of inside) client.end(SENT);
      for (let index = 0; index < inside.length; index += 1) {
        const { conn } = await peer.accept(listener);
        t.deepEqual(await peer.readToEnd(conn), { bytes: SENT.length, sha256: sha256(SENT), end: 'eof' });
        await peer.close(conn);
      }
      for (const client of inside) client.resume();
      t.deepEqual(
        (await Promise.all(results)).map(({ tx, error }) => [tx, error]),
        Array(5).fill([SENT.length, null]),
      );
      await until('all are closed', () => inside.every(({ closed }) => closed), Boolean);
      server.close();
    });
  },
);
