// Sockets destroyed from JavaScript at every moment of their hand-over to a relay, and after it: the relay ends, names the
// side, and leaves no resource.
import { once } from 'node:events';
import net from 'node:net';

import test from 'ava';
import { relay, TransferError } from 'fdsplice';

import { leavesNothing } from '../helpers/left.js';
import { crossing, type Pair } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';
import { within } from '../helpers/wait.js';

/** States of the two sockets when they are handed over. */
const STATES: Record<string, (pair: Pair, peer: Peer, port: number) => Promise<[net.Socket, net.Socket]>> = {
  'both idle': ({ a, b }) => Promise.resolve([a, b]),
  'bytes unread in Node': async ({ a, b, client }, peer) => {
    await peer.writeText(client, 'unread');
    await once(a, 'readable');
    return [a, b];
  },
  'megabytes still to be written by Node': ({ a, b }) => {
    b.write(Buffer.alloc(4 << 20));
    return Promise.resolve([a, b]);
  },
  corked: ({ a, b }) => {
    a.cork();
    a.write('corked');
    return Promise.resolve([a, b]);
  },
  'b still connecting': ({ a, b }, _peer, port) => {
    b.destroy();
    return Promise.resolve([a, net.connect(port, '127.0.0.1')]);
  },
  'bulk on the way': ({ a, b, client, origin }, peer) => {
    peer.write(client, 8 << 20, 1).catch(() => {});
    peer.readToEnd(origin).catch(() => {});
    return Promise.resolve([a, b]);
  },
};

/** Ways to destroy a socket. */
const DESTRUCTIONS: Record<string, (socket: net.Socket) => void> = {
  'destroy()': (socket) => socket.destroy(),
  'destroy(error)': (socket) => socket.destroy(new Error('by the test')),
  'resetAndDestroy()': (socket) => socket.resetAndDestroy(),
};

/** Moments after the call of `relay`, from the same tick to flowing bytes. */
const MOMENTS: (() => Promise<unknown>)[] = [
  () => Promise.resolve(),
  ...[1, 2, 3].map((ticks) => async () => {
    for (let tick = 0; tick < ticks; tick += 1) await new Promise((resolve) => process.nextTick(resolve));
  }),
  ...[1, 2, 3, 5, 8].map((turns) => async () => {
    for (let turn = 0; turn < turns; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  }),
  ...[1, 4, 16].map((ms) => () => new Promise((resolve) => setTimeout(resolve, ms))),
];

for (const [state, prepare] of Object.entries(STATES)) {
  test.serial(
    `${state}: a socket destroyed at any moment of the hand-over ends the relay, and no resource is left`,
    async (t) => {
      const peer = Peer.start(t);
      const nextPair = await crossing(t, peer, 'tcp');
      const { port } = await peer.listen({ port: 0, backlog: 256 });
      const outcomes = new Map<string, number>();
      await leavesNothing(t, async () => {
        for (const [way, destroy] of Object.entries(DESTRUCTIONS)) {
          for (const [when, moment] of MOMENTS.entries()) {
            const side = when % 2 === 0 ? 'a' : 'b';
            const attempt = `${way} of ${side} at moment ${when}`;
            const made = await nextPair();
            const [a, b] = await prepare(made, peer, port);
            const transfer = relay(a, b, { reject: false });
            if (when > 0) await moment();
            destroy(side === 'a' ? a : b);
            const { error, tx, rx } = await within(20_000, attempt, transfer);
            t.true(error instanceof TransferError, attempt);
            // resetAndDestroy() of a connecting socket takes effect once it is connected.
            t.true(['ABORT_ERR', 'ERR_STREAM_DESTROYED'].includes(error?.code ?? ''), `${attempt}: ${error}`);
            t.is(error?.side, side, attempt);
            t.deepEqual(error?.traffic, { tx, rx, total: tx + rx });
            if (way === 'destroy(error)')
              t.is((error?.cause as Error | null)?.message, 'by the test', attempt);
            t.true(a.destroyed && b.destroyed, attempt);
            outcomes.set(String(error?.code), (outcomes.get(String(error?.code)) ?? 0) + 1);
            await Promise.allSettled([peer.close(made.client), peer.close(made.origin)]);
          }
        }
      });
      t.log(JSON.stringify(Object.fromEntries(outcomes)));
    },
  );
}

test.serial('a socket that is ending is closed although the other socket was destroyed', async (t) => {
  const peer = Peer.start(t);
  const nextPair = await crossing(t, peer, 'tcp');
  await leavesNothing(t, async () => {
    for (const when of ['before', 'after'] as const) {
      const { a, b, client, origin } = await nextPair();
      if (when === 'before') b.destroy();
      a.end();
      const transfer = relay(a, b, { reject: false });
      if (when === 'after') b.destroy();
      const { error } = await within(20_000, `the relay ends, destroyed ${when} the call`, transfer);
      t.like(error, { code: when === 'before' ? 'ERR_STREAM_DESTROYED' : 'ABORT_ERR', side: 'b' });
      t.true(a.closed);
      await Promise.allSettled([peer.close(client), peer.close(origin)]);
    }
  });
});
