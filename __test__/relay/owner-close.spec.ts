// Listeners of an owner that act on one end when the other one fails: the end that was destroyed first is blamed.
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';

import test from 'ava';
import { relay, type TransferError } from 'fdsplice';

import { nothingIsLeft } from '../helpers/left.js';
import { within } from '../helpers/wait.js';
import { blameOf, type Ends, KINDS, tcp } from './kinds.js';

nothingIsLeft(test, 'behind all tests');

/** What an owner does with the end that is still open. */
const REACTIONS: Record<string, (other: Duplex) => void> = {
  'end()': (other) => other.end(),
  // As proxy-chain does.
  'resume() and end()': (other) => other.resume().end(),
  'end() with data': (other) => other.end('bye'),
  'write()': (other) => other.write('bye'),
  'destroy()': (other) => other.destroy(),
  'destroy() with an error': (other) => other.destroy(new Error('because of the other end')),
};

function failing({ client, origin, a, b }: Ends): void {
  for (const stream of [client, origin, a, b]) stream.on('error', () => {});
}

/** The error of a relay without its traffic. */
async function errorOf(transfer: ReturnType<typeof relay>): Promise<Partial<TransferError>> {
  const { error } = await within(20_000, 'the relay ends', transfer);
  const { code, side, cause } = error ?? {};
  return { code, side, cause } as Partial<TransferError>;
}

for (const [kind, make] of Object.entries(KINDS)) {
  for (const side of ['a', 'b'] as const) {
    for (const [name, react] of Object.entries(REACTIONS)) {
      for (const when of ['before', 'after'] as const) {
        test(`${kind}: ${name} in a 'close' listener from ${when} the relay leaves the blame with ${side}`, async (t) => {
          const ends = await make(t);
          failing(ends);
          const [failed, other] = side === 'a' ? [ends.a, ends.b] : [ends.b, ends.a];
          const listen = () => failed.on('close', () => react(other));
          if (when === 'before') listen();
          const transfer = relay(ends.a, ends.b, { reject: false });
          if (when === 'after') listen();
          ends.client.write('request');
          await within(20_000, 'the request arrives', once(ends.origin, 'data'));
          failed.destroy();
          t.deepEqual(await errorOf(transfer), blameOf(failed, side));
          t.is(transfer.traffic.tx, 7);
        });
      }

      test(`${kind}: ${name} in an 'error' listener leaves the blame with ${side}`, async (t) => {
        const ends = await make(t);
        failing(ends);
        const [failed, other] = side === 'a' ? [ends.a, ends.b] : [ends.b, ends.a];
        failed.on('error', () => react(other));
        const transfer = relay(ends.a, ends.b, { reject: false });
        const cause = new Error('destroyed by its owner');
        failed.destroy(cause);
        t.deepEqual(await errorOf(transfer), blameOf(failed, side, cause));
      });

      test(`${kind}: ${name} right after the destroy() of ${side} leaves the blame with ${side}`, async (t) => {
        const ends = await make(t);
        failing(ends);
        const [failed, other] = side === 'a' ? [ends.a, ends.b] : [ends.b, ends.a];
        const transfer = relay(ends.a, ends.b, { reject: false });
        const cause = new Error('destroyed by its owner');
        failed.destroy(cause);
        react(other);
        t.deepEqual(await errorOf(transfer), blameOf(failed, side, cause));
      });
    }

    test(`${kind}: an abort keeps its verdict with a 'close' listener of ${side} that ends the other end`, async (t) => {
      const ends = await make(t);
      failing(ends);
      const [failed, other] = side === 'a' ? [ends.a, ends.b] : [ends.b, ends.a];
      failed.on('close', () => other.end('bye'));
      const controller = new AbortController();
      const transfer = relay(ends.a, ends.b, { reject: false, signal: controller.signal });
      const reason = new Error('the reason');
      controller.abort(reason);
      t.deepEqual(await errorOf(transfer), { code: 'ABORT_ERR', side: undefined, cause: reason });
    });
  }
}

for (const side of ['a', 'b'] as const) {
  test(`a failed connect of ${side} is blamed although its owner destroys the other end`, async (t) => {
    const [client, connected] = await tcp(t);
    client.on('error', () => {});
    const connecting = net.connect({ path: join(tmpdir(), `fdsplice-${randomUUID()}`) });
    connecting.on('error', () => connected.destroy());
    const [a, b] = side === 'a' ? [connecting, connected] : [connected, connecting];
    const transfer = relay(a, b, { reject: false });
    const { error } = await within(20_000, 'the relay ends', transfer);
    t.like(error, { code: 'ENOENT', syscall: 'connect', side });
  });
}
