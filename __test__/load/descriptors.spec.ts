import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

import test from 'ava';
import { relay, stats, TransferError, type TrafficResult } from 'fdsplice';

import { descriptorKinds, descriptorOf } from '../helpers/descriptors.js';
import { isNative } from '../helpers/engine.js';
import { crossing, type Pair } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';
import { until, within } from '../helpers/wait.js';

interface Scene extends Pair {
  peer: Peer;
  closedPort: number;
}

/** Every kind of ending, each with what has to come out of it. */
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
  'aborted before': {
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
  'destroyed before': {
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
  'numbers, which stay the caller’s': {
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
  'a mistake in the second argument, then a clean relay': {
    code: null,
    run: async ({ a, b, client, origin, peer }) => {
      await Promise.allSettled([relay(descriptorOf(a), 2 ** 30), relay(a, 2 ** 30)]);
      await Promise.all([peer.shutdown(client), peer.shutdown(origin)]);
      return relay(a, b, { reject: false });
    },
  },
};

/** Without the core, the number of a socket is nothing to serve. */
const OF_NUMBERS = [
  'numbers, which stay the caller’s',
  'a mistake in the second argument, then a clean relay',
];

/** A reset is nothing Unix sockets know, and a Unix connect fails in other ways. */
const TCP_ONLY = ['reset of a', 'reset of b while bytes flow', 'failed connect'];

/** Open descriptors by kind; pipes that are kept for the next transfer are no leak. */
function held(): Record<string, number> {
  const kinds = descriptorKinds();
  const { leased, idle } = stats().pipes;
  kinds.set('pipe', (kinds.get('pipe') ?? 0) - 2 * (leased + idle));
  return Object.fromEntries([...kinds].sort());
}

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
          (transport === 'tcp' || !TCP_ONLY.includes(name)) && (isNative || !OF_NUMBERS.includes(name)),
      );
      async function wave(): Promise<void> {
        await Promise.all(
          endings.map(async ([name, { code, run }]) => {
            const made = await meet();
            const { error } = await within(30_000, name, run({ ...made, peer, closedPort }));
            t.is(error?.code ?? null, code, name);
            t.true(error === null || error instanceof TransferError);
            // Whichever is gone already says so; the rest would otherwise pile up in the peer.
            await Promise.allSettled([peer.close(made.client), peer.close(made.origin)]);
          }),
        );
      }

      // The first relays start what stays: threads, and their descriptors.
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
        'as many as before are open',
        held,
        (now) => JSON.stringify(now) === JSON.stringify(before),
      );
      t.deepEqual(after, before);
      t.is(stats().pipes.leased, 0);
    },
  );
}
