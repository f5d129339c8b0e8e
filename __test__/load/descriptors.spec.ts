// Descriptor leaks: after 1,000 relays with every kind of ending, the process has as many descriptors as before.
import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

import test from 'ava';
import { relay, stats, TransferError, type TrafficResult } from 'fdsplice';

import { descriptorOf } from '../helpers/descriptors.js';
import { isNative } from '../helpers/engine.js';
import { held } from '../helpers/left.js';
import { crossing, type Pair } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';
import { until, within } from '../helpers/wait.js';

interface Scene extends Pair {
  peer: Peer;
  closedPort: number;
}

/** Every kind of ending, with the error code that the relay must report. */
const ENDINGS: Record<string, { code: string | null; run: (scene: Scene) => Promise<TrafficResult> }> = {
  clean: {
    code: null,
    run: async ({ a, b, client, origin, peer }) => {
      const transfer = relay(a, b, { reject: false });
      await Promise.all([peer.write(client, 200_000, 1), peer.read(origin, 200_000)]);
      await Promise.all([peer.shutdown(client), peer.shutdown(origin)]);
      return transfer;
    },
  },
  'reset of a': {
    code: 'ECONNRESET',
    run: async ({ a, b, client, peer }) => {
      const transfer = relay(a, b, { reject: false });
      await peer.reset(client);
      return transfer;
    },
  },
  'reset of b while bytes flow': {
    code: 'ECONNRESET',
    run: async ({ a, b, client, origin, peer }) => {
      const transfer = relay(a, b, { reject: false });
      peer.write(client, 1 << 30, 1).catch(() => {});
      await peer.read(origin, 500_000);
      await peer.reset(origin);
      return transfer;
    },
  },
  'abort while idle': {
    code: 'ABORT_ERR',
    run: ({ a, b }) => {
      const transfer = relay(a, b, { reject: false });
      transfer.abort();
      return transfer;
    },
  },
  'abort while blocked': {
    code: 'ABORT_ERR',
    run: async ({ a, b, client, peer }) => {
      const transfer = relay(a, b, { reject: false });
      peer.write(client, 1 << 30, 1).catch(() => {});
      await until(
        'bytes have moved',
        () => transfer.traffic.tx,
        (tx) => tx > 100_000,
      );
      transfer.abort();
      return transfer;
    },
  },
  'aborted before the call': {
    code: 'ABORT_ERR',
    run: ({ a, b }) => relay(a, b, { reject: false, signal: AbortSignal.abort() }),
  },
  'destroy of a': {
    code: 'ABORT_ERR',
    run: async ({ a, b, client, origin, peer }) => {
      const transfer = relay(a, b, { reject: false });
      await Promise.all([peer.write(client, 1000, 1), peer.read(origin, 1000)]);
      a.destroy();
      return transfer;
    },
  },
  'destroyed before the call': {
    code: 'ERR_STREAM_DESTROYED',
    run: ({ a, b }) => {
      b.destroy();
      return relay(a, b, { reject: false });
    },
  },
  'failed connect': {
    code: 'ECONNREFUSED',
    run: ({ a, b, closedPort }) => {
      b.destroy();
      return relay(a, net.connect(closedPort, '127.0.0.1'), { reject: false });
    },
  },
  'write to a relayed socket': {
    code: 'ERR_INVALID_STATE',
    run: ({ a, b }) => {
      const transfer = relay(a, b, { reject: false });
      a.write('x');
      return transfer;
    },
  },
  'descriptor numbers, which the caller keeps': {
    code: 'ABORT_ERR',
    run: async ({ a, b, client, origin, peer }) => {
      const transfer = relay(descriptorOf(a), descriptorOf(b), { reject: false });
      await Promise.all([peer.write(client, 1000, 1), peer.read(origin, 1000)]);
      transfer.abort();
      const result = await transfer;
      a.destroy();
      b.destroy();
      return result;
    },
  },
  'a wrong second argument, then a clean relay': {
    code: null,
    run: async ({ a, b, client, origin, peer }) => {
      await Promise.allSettled([relay(descriptorOf(a), 2 ** 30), relay(a, 2 ** 30)]);
      await Promise.all([peer.shutdown(client), peer.shutdown(origin)]);
      return relay(a, b, { reject: false });
    },
  },
};

/** The stream engine does not accept descriptor numbers of sockets. */
const NUMBERS_ONLY = [
  'descriptor numbers, which the caller keeps',
  'a wrong second argument, then a clean relay',
];

/** Unix sockets have no reset, and a connect over them fails with other codes. */
const TCP_ONLY = ['reset of a', 'reset of b while bytes flow', 'failed connect'];

for (const transport of ['tcp', 'unix'] as const) {
  test.serial(
    `${transport}: no descriptor is left after 1,000 relays with every kind of ending`,
    async (t) => {
      t.timeout(240_000);
      const peer = Peer.start(t);
      const meet = await crossing(t, peer, transport, { untouched: true });
      const server = net.createServer().listen(0, '127.0.0.1');
      await once(server, 'listening');
      const { port: closedPort } = server.address() as AddressInfo;
      server.close();
      await once(server, 'close');

      const endings = Object.entries(ENDINGS).filter(
        ([name]) =>
          (transport === 'tcp' || !TCP_ONLY.includes(name)) && (isNative || !NUMBERS_ONLY.includes(name)),
      );
      async function wave(): Promise<void> {
        await Promise.all(
          endings.map(async ([name, { code, run }]) => {
            const made = await meet();
            const { error } = await within(30_000, name, run({ ...made, peer, closedPort }));
            t.is(error?.code ?? null, code, name);
            t.true(error === null || error instanceof TransferError);
            // A connection that is already closed rejects. Open ones would accumulate in the peer.
            await Promise.allSettled([peer.close(made.client), peer.close(made.origin)]);
          }),
        );
      }

      // The first relays start the threads of the core, whose descriptors stay open.
      for (let round = 0; round < 3; round += 1) {
        await wave();
      }
      let before = held();
      do {
        before = held();
        await sleep(500);
      } while (stats().active > 0 || JSON.stringify(held()) !== JSON.stringify(before));
      for (let round = 0; round < 1000 / endings.length; round += 1) {
        await wave();
      }
      const after = await until(
        'as many descriptors as before are open',
        held,
        (now) => JSON.stringify(now) === JSON.stringify(before),
      );
      t.deepEqual(after, before);
      t.is(stats().pipes.leased, 0);
    },
  );
}
