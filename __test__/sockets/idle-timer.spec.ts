// The idle timer of a socket (`socket.setTimeout`, `keepAliveTimeout`) counts from the last byte, also from one that the
// core moved. Each test compares the order of two timers, because a busy machine delays both.
import { once } from 'node:events';
import http from 'node:http';
import net, { type AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

import test from 'ava';
import { copy, relay, sendFile } from 'fdsplice';

import { sample } from '../helpers/copy-files.js';
import { coreTest } from '../helpers/engine.js';
import { nothingIsLeft } from '../helpers/left.js';
import { pair, type Pair } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';
import { until, within } from '../helpers/wait.js';

nothingIsLeft(test, 'behind each test');

const PERIOD = 800;

/** Whether `event` comes before a timer of one and a half periods that starts now. Two whole periods are too late. */
async function comesInTime(event: Promise<unknown>, periods = 1.5): Promise<boolean> {
  const timer = sleep(PERIOD * periods, false);
  return Promise.race([event.then(() => true), timer]);
}

const TRANSFERS: Record<string, (made: Pair, peer: Peer) => Promise<net.Socket>> = {
  'read by a relay': async ({ a, b, client, origin }, peer) => {
    a.setTimeout(PERIOD);
    relay(a, b).catch(() => {});
    await peer.writeText(client, 'x');
    await peer.readText(origin, 1);
    return a;
  },
  'written by a relay': async ({ a, b, client, origin }, peer) => {
    b.setTimeout(PERIOD);
    relay(a, b).catch(() => {});
    await peer.writeText(client, 'x');
    await peer.readText(origin, 1);
    return b;
  },
  'read by a copy that goes on': async ({ a, b, client, origin }, peer) => {
    a.setTimeout(PERIOD);
    copy(a, b).catch(() => {});
    await peer.writeText(client, 'x');
    await peer.readText(origin, 1);
    return a;
  },
  'written by a copy that has ended': async ({ a, b, client, origin }, peer) => {
    b.setTimeout(PERIOD);
    const transfer = copy(a, b, { length: 1 });
    await peer.writeText(client, 'x');
    await peer.readText(origin, 1);
    await transfer;
    return b;
  },
};

for (const transport of ['tcp', 'unix'] as const) {
  for (const [name, move] of Object.entries(TRANSFERS)) {
    test.serial(`${transport}: the idle timeout counts from a byte that was ${name}`, async (t) => {
      const peer = Peer.start(t);
      const made = await pair(t, peer, transport);
      const socket = await move(made, peer);
      t.true(await comesInTime(once(socket, 'timeout')));
    });
  }

  test.serial(`${transport}: the idle timeout counts from a file that was sent`, async (t) => {
    const peer = Peer.start(t);
    const { path } = sample(t, 100_000);
    const { a, client } = await pair(t, peer, transport);
    a.setTimeout(PERIOD);
    await Promise.all([sendFile(path, a), peer.read(client, 100_000)]);
    t.true(await comesInTime(once(a, 'timeout')));
  });

  test.serial(`${transport}: the start of a transfer does not start the idle timeout anew`, async (t) => {
    const peer = Peer.start(t);
    const { a, b } = await pair(t, peer, transport);
    const fired = once(a.setTimeout(PERIOD), 'timeout');
    await sleep(PERIOD / 2);
    relay(a, b).catch(() => {});
    t.true(await comesInTime(fired, 0.8));
  });
}

const SHORT = 200;

for (const verb of ['relay', 'copy'] as const) {
  test.serial(
    `${verb}: the idle timeout is reported again after bytes that follow on one, and only then`,
    async (t) => {
      const peer = Peer.start(t);
      const { a, b, client, origin } = await pair(t, peer);
      let reports = 0;
      a.setTimeout(SHORT).on('timeout', () => (reports += 1));
      const transfer = verb === 'relay' ? relay(a, b) : copy(a, b);
      transfer.catch(() => {});
      for (const expected of [1, 2, 3]) {
        await until(
          `report ${expected} of an idle socket`,
          () => reports,
          (count) => count >= expected,
        );
        await sleep(SHORT * 3);
        t.is(reports, expected);
        await peer.writeText(client, 'x');
        await peer.readText(origin, 1);
      }
      transfer.abort();
      await transfer.catch(() => {});
    },
  );
}

test.serial(
  'a listener that sets the idle timeout anew is called again although no byte has moved',
  async (t) => {
    const peer = Peer.start(t);
    const { a, b } = await pair(t, peer);
    let reports = 0;
    a.setTimeout(SHORT).on('timeout', () => {
      reports += 1;
      a.setTimeout(SHORT);
    });
    relay(a, b).catch(() => {});
    await until(
      'the third report',
      () => reports,
      (count) => count >= 3,
    );
    t.pass();
  },
);

test.serial('after a report, a byte of Node starts a whole period', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer);
  b.setTimeout(PERIOD);
  const transfer = copy(a, b, { length: 1 });
  // The timer that reports is set to this rest of the period.
  await sleep(PERIOD / 8);
  await peer.writeText(client, 'x');
  await peer.readText(origin, 1);
  await transfer;
  await once(b, 'timeout');
  const fired = once(b, 'timeout').then(() => 'the timeout');
  b.write('y');
  t.is(await Promise.race([fired, sleep(PERIOD / 2, 'half of a period')]), 'half of a period');
  await within(20_000, 'the socket is reported as idle', fired);
});

for (const bytes of [1000, 300_000]) {
  test.serial(
    `keepAliveTimeout counts from the end of a response with a file of ${bytes} bytes`,
    async (t) => {
      const { path } = sample(t, bytes);
      const server = http.createServer((request, response) => {
        if (request.url === '/plain') response.end('x'.repeat(bytes));
        else void sendFile(path, response).catch(() => {});
      });
      // Node adds up to a second to it.
      server.keepAliveTimeout = 300;
      server.listen(0, '127.0.0.1');
      t.teardown(() => void server.close());
      await once(server, 'listening');
      const { port } = server.address() as AddressInfo;
      /** Gets a response; the inner promise resolves when the server closes the connection. */
      const get = async (url: string) => {
        const client = net.connect(port, '127.0.0.1');
        t.teardown(() => client.destroy());
        const closed = once(client, 'end').then(() => url);
        const complete = new Promise<void>((resolve) => {
          let received = 0;
          client.on('data', (chunk: Buffer) => {
            received += chunk.length;
            if (received > bytes) resolve();
          });
        });
        client.write(`GET ${url} HTTP/1.1\r\nHost: a\r\n\r\n`);
        await within(20_000, 'the body arrives', complete);
        return { closed };
      };
      const { closed: withFile } = await get('/file');
      // Half of the time that Node keeps a connection.
      await sleep(600);
      const { closed: plain } = await get('/plain');
      t.is(await Promise.race([withFile, plain]), '/file');
    },
  );
}

coreTest.serial('server.timeout counts from a part of a file that its client took', async (t) => {
  const { path } = sample(t, 20_000_000);
  const server = http.createServer((_request, response) => void sendFile(path, response).catch(() => {}));
  server.timeout = PERIOD;
  server.listen(0, '127.0.0.1');
  t.teardown(() => void server.close());
  await once(server, 'listening');
  const client = net.connect((server.address() as AddressInfo).port, '127.0.0.1');
  t.teardown(() => client.destroy());
  const [[socket]] = (await Promise.all([once(server, 'connection'), once(client, 'connect')])) as [
    [net.Socket],
    unknown,
  ];
  const fired = once(socket, 'timeout');
  client.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  await once(client, 'readable');
  // The client reads no further: the buffers fill, and then nothing moves.
  t.true(await comesInTime(fired, 1.8));
});
