// Full connection backlogs on both sides of a gateway: at its target and at the gateway itself. On a Unix socket the
// kernel refuses such a connect with EAGAIN, which must cost that connection only.
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
  'a full backlog at a Unix target fails the relay with EAGAIN and resets the client; a relay works again once there is room',
  async (t) => {
    const peer = Peer.start(t);
    const nextPair = await crossing(t, peer, 'tcp');
    const path = join(directory(t), 'target');
    const { listener } = await peer.listen({ path, backlog: 0 });
    await leavesNothing(t, async () => {
      // A backlog of 0 has room for one connection.
      const waiting = net.connect(path);
      await once(waiting, 'connect');
      for (let round = 0; round < 10; round += 1) {
        const { a, b, client, origin } = await nextPair();
        b.destroy();
        await peer.writeText(client, 'early');
        const { error, total } = await relay(a, net.connect(path), { reject: false });
        t.like(error, { code: 'EAGAIN', syscall: 'connect', side: 'b' });
        t.is(total, 0);
        t.is((await peer.readToEnd(client)).end, 'reset');
        await Promise.all([peer.close(client), peer.close(origin)]);
      }
      const { conn: first } = await peer.accept(listener);
      const { a, b, client, origin } = await nextPair();
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
  'a gateway with a full Unix backlog turns away the clients that do not fit and serves all the others',
  async (t) => {
    const peer = Peer.start(t);
    const folder = directory(t);
    const target = join(folder, 'target');
    const { listener } = await peer.listen({ path: target, backlog: 64 });
    await leavesNothing(t, async () => {
      const results: Promise<{ tx: number; error: unknown }>[] = [];
      const server = net.createServer({ pauseOnConnect: true, allowHalfOpen: true }, (client) => {
        results.push(relay(client, net.connect({ path: target, allowHalfOpen: true }), { reject: false }));
      });
      server.listen({ path: join(folder, 'gateway'), backlog: 4 });
      await once(server, 'listening');
      // The server accepts nothing within this turn of the event loop.
      const clients = Array.from({ length: 40 }, () => net.connect(join(folder, 'gateway')));
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
      await until('all clients are closed', () => inside.every(({ closed }) => closed), Boolean);
      server.close();
    });
  },
);
