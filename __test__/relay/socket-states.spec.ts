// Sockets that an owner hands over, or changes, in a state that a relay does not expect: each relay still ends, and none
// takes anything from another one.
import { once } from 'node:events';
import net from 'node:net';

import test, { type ExecutionContext } from 'ava';
import { relay, type Transfer, type TransferError } from 'fdsplice';

import { coreTest } from '../helpers/engine.js';
import { failure, PROMPT_MS } from '../helpers/failure.js';
import { nothingIsLeft } from '../helpers/left.js';
import { within } from '../helpers/wait.js';
import { tcp, unix } from './kinds.js';

nothingIsLeft(test, 'behind all tests');

const TRANSPORTS = { tcp, unix };

/** The listeners of a helper would hide a missing one. */
async function silent(t: ExecutionContext): Promise<net.Socket> {
  const [, inner] = (await tcp(t)) as [net.Socket, net.Socket];
  inner.removeAllListeners('error');
  return inner;
}

/** Starts a relay of the two sockets that has moved a byte. */
async function running(client: net.Socket, a: net.Socket, b: net.Socket, origin: net.Socket) {
  const transfer = relay(a, b);
  client.write('x');
  await within(PROMPT_MS, 'a byte arrives', once(origin, 'data'));
  return { transfer };
}

test.serial('the error of a socket that was destroyed just before is in the result alone', async (t) => {
  const [a, b] = [await silent(t), await silent(t)];
  const cause = new Error('before the relay');
  a.destroy(cause);
  t.like(await failure(t, relay(a, b)), { code: 'ERR_STREAM_DESTROYED', side: 'a', cause });
  t.true(b.destroyed);
});

test.serial('the error of a socket whose destroy() throws too is no uncaught exception', async (t) => {
  const [a, b] = [await silent(t), await silent(t)];
  a.destroy = () => {
    net.Socket.prototype.destroy.call(a, new Error('late'));
    throw new Error('at once');
  };
  const closed = new Promise((resolve) => a.on('close', resolve));
  t.like(await failure(t, relay(a, b, { signal: AbortSignal.abort() })), { code: 'ABORT_ERR' });
  await closed;
  t.true(b.destroyed);
  Reflect.deleteProperty(a, 'destroy');
});

for (const [transport, make] of Object.entries(TRANSPORTS)) {
  for (const when of ["its own 'close' listener", "the other end's 'close' listener", "an 'end' listener"]) {
    coreTest.serial(
      `${transport}: both relays of a socket settle when the second one is called in ${when}`,
      async (t) => {
        const [[client, a], [origin, b], [, c]] = (await Promise.all([make(t), make(t), make(t)])) as [
          [net.Socket, net.Socket],
          [net.Socket, net.Socket],
          [net.Socket, net.Socket],
        ];
        let second: Transfer | undefined;
        const again = () => {
          second ??= relay(a, c);
          second.catch(() => {});
        };
        if (when === "an 'end' listener") a.on('end', () => process.nextTick(again));
        else (when.startsWith('its own') ? a : b).on('close', again);
        const { transfer: first } = await running(client, a, b, origin);
        if (when === "an 'end' listener") {
          client.end();
          origin.end();
          await within(PROMPT_MS, 'the first relay ends', first);
        } else {
          first.abort();
          t.like(await failure(t, first), { code: 'ABORT_ERR' });
        }
        t.not(second, undefined);
        t.like(await failure(t, second ?? first), { code: 'ERR_STREAM_DESTROYED', side: 'a' });
        t.true(c.destroyed);
      },
    );
  }
}

coreTest.serial(
  "a socket that a 'pause' listener of the other end has given to a relay is not taken from it",
  async (t) => {
    const [[, a], [, b], [, c]] = (await Promise.all([tcp(t), tcp(t), tcp(t)])) as [
      [net.Socket, net.Socket],
      [net.Socket, net.Socket],
      [net.Socket, net.Socket],
    ];
    let inner: Transfer | undefined;
    a.resume().on('pause', () => {
      inner = relay(b, c);
      inner.catch(() => {});
    });
    const error = await failure(t, relay(a, b));
    t.regex(String(error.code), /^(ERR_INVALID_STATE|ABORT_ERR|ERR_STREAM_DESTROYED)$/);
    inner?.abort();
    await failure(t, inner ?? relay(a, b));
    t.deepEqual([a.destroyed, b.destroyed, c.destroyed], [true, true, true]);
  },
);

for (const change of ['preventExtensions', 'seal'] as const) {
  coreTest.serial(
    `a socket after Object.${change}() fails a relay, and the other end is destroyed`,
    async (t) => {
      const [a, b] = [await silent(t), await silent(t)];
      Object[change](a);
      t.like(await failure(t, relay(a, b)), { code: 'ABORT_ERR' });
      t.true(b.destroyed);
    },
  );
}

for (const [name, end] of Object.entries({
  ends: (client: net.Socket, origin: net.Socket) => [client.end(), origin.end()],
  fails: (client: net.Socket) => client.resetAndDestroy(),
})) {
  coreTest.serial(`a relay ${name} after Object.preventExtensions() of a socket`, async (t) => {
    const [[client, a], [origin, b]] = (await Promise.all([tcp(t), tcp(t)])) as [
      [net.Socket, net.Socket],
      [net.Socket, net.Socket],
    ];
    const { transfer } = await running(client, a, b, origin);
    Object.preventExtensions(a);
    end(client, origin);
    const error = await within(
      PROMPT_MS,
      'the relay ends',
      transfer.then(
        () => undefined,
        (reason: unknown) => reason as TransferError,
      ),
    );
    t.is(error?.code, name === 'ends' ? undefined : 'ECONNRESET');
    t.deepEqual([a.destroyed, b.destroyed], [true, true]);
  });
}

for (const method of ['push', 'unshift'] as const) {
  coreTest.serial(`a relay ends although its owner has called ${method}() on an end`, async (t) => {
    const [[client, a], [origin, b]] = (await Promise.all([tcp(t), tcp(t)])) as [
      [net.Socket, net.Socket],
      [net.Socket, net.Socket],
    ];
    const { transfer } = await running(client, a, b, origin);
    a[method](Buffer.from('not of the peer'));
    client.end();
    origin.end();
    t.like(await within(PROMPT_MS, 'the relay ends', transfer), { tx: 1, rx: 0, error: null });
  });
}
