// Live counts and onProgress: they only grow, match what the peers observed, and end with the final counts.
import { AsyncLocalStorage } from 'node:async_hooks';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

import test, { type ExecutionContext } from 'ava';
import {
  copy,
  type RelayOptions,
  relay,
  sendFile,
  type Traffic,
  type Transfer,
  type TransferError,
} from 'fdsplice';

import { GiB, KiB, MiB, opened, sample } from '../helpers/copy-files.js';
import { failure } from '../helpers/failure.js';
import { nothingIsLeft } from '../helpers/left.js';
import { crossing, pair, type Pair } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';
import { until, within } from '../helpers/wait.js';

nothingIsLeft(test, 'behind all tests');

type Start = (
  t: ExecutionContext,
  made: Pair,
  options: Omit<RelayOptions, 'rateLimit'> & Limited,
) => Transfer;
interface Limited {
  rateLimit?: number;
}

const FILE = 16 * MiB;
const VERBS: [name: string, start: Start][] = [
  ['relay', (_, { a, b }, options) => relay(a, b, options)],
  ['copy', (_, { a, b }, options) => copy(a, b, options)],
  ['copy of a file', (t, { b }, options) => copy(opened(t, sample(t, FILE).path), b, options)],
  ['sendFile', (t, { b }, options) => sendFile(sample(t, FILE).path, b, options)],
];

const NOTHING: Traffic = { tx: 0, rx: 0, total: 0 };

/** The largest send buffer of a TCP socket. */
const [, , SEND_BUFFER = NaN] = readFileSync('/proc/sys/net/ipv4/tcp_wmem', 'utf8').split(/\s+/).map(Number);

for (const [name, start] of VERBS) {
  test.serial(
    `${name}: live counts only grow, and never exceed what the peers can have observed`,
    async (t) => {
      const peer = Peer.start(t);
      const receiveBuffer = 64 * KiB;
      const made = await pair(t, peer, 'tcp', { origin: { rcvbuf: receiveBuffer } });
      const { client, origin } = made;
      peer.write(client, GiB, 1, { chunk: { min: 1, max: 100_000 } }).catch(() => {});
      const reading = peer.readToEnd(origin, { chunk: { min: 1, max: 60_000 }, pauseMs: 2 });
      const isRelay = name === 'relay';
      if (isRelay) {
        peer.write(origin, GiB, 2, { pauseMs: 1 }).catch(() => {});
        peer.readToEnd(client, { pauseMs: 2 }).catch(() => {});
      }
      const transfer = start(t, made, { reject: false });
      const seen: Traffic[] = [NOTHING];
      const end = performance.now() + 2_500;
      while (performance.now() < end) {
        const { traffic } = transfer;
        seen.push(traffic);
        // Queried after the live counts, so both can only have grown since.
        const [atClient, atOrigin] = await Promise.all([peer.counts(client), peer.counts(origin)]);
        // A peer counts a call only once its thread runs again after the call, so one call may be missing.
        const call = 256 * KiB;
        const inBuffers = SEND_BUFFER + 2 * receiveBuffer + call;
        if (traffic.tx > atOrigin.received + inBuffers)
          t.fail(`${traffic.tx}, but ${atOrigin.received} received`);
        if (name === 'relay' || name === 'copy') {
          if (traffic.tx > atClient.sent + call) t.fail(`${traffic.tx} of ${atClient.sent} sent`);
        }
        if (traffic.rx > atOrigin.sent + call) t.fail(`${traffic.rx} of ${atOrigin.sent} sent`);
        await sleep(1);
      }
      transfer.abort();
      const result = await transfer;
      seen.push({ tx: result.tx, rx: result.rx, total: result.total });
      for (const [index, now] of seen.entries()) {
        const before = seen[index - 1] ?? NOTHING;
        if (now.tx < before.tx || now.rx < before.rx) t.fail(`${JSON.stringify(now)} at ${index}`);
        if (now.total !== now.tx + now.rx) t.fail(JSON.stringify(now));
      }
      const different = new Set(seen.map(({ total }) => total)).size;
      t.log(`${different} different counts, ${result.tx} and ${result.rx} bytes at the end`);
      t.true(different > 3);
      t.is(result.rx > 0, isRelay);
      t.deepEqual(transfer.traffic, seen.at(-1));
      // A copy leaves the socket open, which would keep the reader waiting.
      made.b.destroy();
      t.true((await reading).bytes <= result.tx);
    },
  );

  test(`${name}: onProgress is called at its interval while bytes move, and with the final counts at the end`, async (t) => {
    const peer = Peer.start(t);
    const made = await pair(t, peer);
    peer.readToEnd(made.origin).catch(() => {});
    const calls: { at: number; traffic: Traffic }[] = [];
    let settled = false;
    const transfer = start(t, made, {
      rateLimit: 256 * KiB,
      progressInterval: 200,
      onProgress: (traffic) => {
        t.false(settled, 'called after the transfer had settled');
        calls.push({ at: performance.now(), traffic });
      },
    });
    const started = performance.now();
    if (name.startsWith('copy of') || name === 'sendFile') {
      setTimeout(() => transfer.abort(), 2_000);
    } else {
      await peer.write(made.client, 400 * KiB, 1);
      await peer.shutdown(made.client);
      await peer.shutdown(made.origin);
    }
    const { traffic } = await transfer.then(
      ({ tx, rx, total }) => ({ traffic: { tx, rx, total } }),
      (error: TransferError) => error,
    );
    settled = true;
    const ms = performance.now() - started;
    t.deepEqual(calls.at(-1)?.traffic, traffic);
    t.true(traffic.total > 200 * KiB);
    t.log(`${calls.length} calls in ${Math.round(ms)} ms`);
    // Calls may be late on a busy machine, but never early.
    t.true(calls.length >= 3 && calls.length <= ms / 200 + 2);
    for (const [index, { traffic }] of calls.entries()) {
      t.true(traffic.total >= (calls[index - 1]?.traffic.total ?? 0));
    }
    await sleep(500);
  });

  test(`${name}: an onProgress that throws fails the transfer with that cause`, async (t) => {
    const peer = Peer.start(t);
    const made = await pair(t, peer);
    const reading = peer.readToEnd(made.origin).catch(() => undefined);
    peer.write(made.client, GiB, 1).catch(() => {});
    const mistake = new Error('of the caller');
    let calls = 0;
    const transfer = start(t, made, {
      rateLimit: 512 * KiB,
      progressInterval: 50,
      onProgress: () => {
        calls += 1;
        if (calls === 2) throw mistake;
      },
    });
    const error = await failure(t, transfer);
    t.is(error.cause, mistake);
    t.deepEqual(error.traffic, transfer.traffic);
    t.true(error.traffic.tx > 0 && calls >= 2);
    if (name === 'relay') t.is((await reading)?.end, 'reset');
  });
}

test('an onProgress that throws in the last call fails an otherwise successful transfer', async (t) => {
  const peer = Peer.start(t);
  const meet = await crossing(t, peer, 'tcp');
  for (const reject of [true, false]) {
    const { a, b, client, origin } = await meet();
    const mistake = new Error('of the caller');
    const onProgress = () => {
      throw mistake;
    };
    const transfer = relay(a, b, { onProgress, reject });
    await peer.writeText(client, 'hello');
    t.is(await peer.readText(origin, 5), 'hello');
    await Promise.all([peer.shutdown(client), peer.shutdown(origin)]);
    const error = reject ? await failure(t, transfer) : (await transfer).error;
    t.like(error, { cause: mistake, traffic: { tx: 5, rx: 0, total: 5 } });
    t.true(a.destroyed && b.destroyed);
  }
});

test('an exception from onProgress never escapes, whatever its value', async (t) => {
  const peer = Peer.start(t);
  const meet = await crossing(t, peer, 'tcp');
  for (const thrown of ['a string', null, 0]) {
    const { a, b } = await meet();
    const onProgress = () => {
      // eslint-disable-next-line @typescript-eslint/only-throw-error -- callers may do this
      throw thrown;
    };
    const transfer = relay(a, b, { onProgress });
    transfer.abort('first');
    // The abort came first, so the exception from the last call does not replace it.
    t.like(await failure(t, transfer), { code: 'ABORT_ERR', cause: 'first' });
  }
});

test('the default progress interval is one second', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer);
  const calls: number[] = [];
  const started = performance.now();
  const onProgress = () => void calls.push(performance.now() - started);
  const transfer = relay(a, b, { onProgress, rateLimit: 64 * KiB });
  peer.readToEnd(origin).catch(() => {});
  await peer.write(client, 160 * KiB, 1);
  await Promise.all([peer.shutdown(client), peer.shutdown(origin)]);
  await transfer;
  t.log(calls.map(Math.round).join());
  t.true((calls[0] ?? 0) >= 990);
  t.true(calls.length >= 2 && calls.length <= 5);
});

test('onProgress is not called while nothing moves, except at the end', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer);
  const calls: Traffic[] = [];
  const transfer = relay(a, b, { progressInterval: 20, onProgress: (traffic) => void calls.push(traffic) });
  await sleep(300);
  t.deepEqual(calls, []);
  await peer.writeText(client, 'hello');
  await until('onProgress is called', () => calls.length, Boolean);
  const five = { tx: 5, rx: 0, total: 5 };
  await sleep(300);
  t.deepEqual(calls, [five]);
  await Promise.all([peer.shutdown(client), peer.shutdown(origin)]);
  await transfer;
  t.deepEqual(calls, [five, five]);
});

for (const ending of ['abort', 'reset', 'timeout'] as const) {
  test(`the last onProgress call has the final counts of a relay that ends by ${ending}`, async (t) => {
    const peer = Peer.start(t);
    const { a, b, client, origin } = await pair(t, peer);
    const calls: Traffic[] = [];
    const transfer = relay(a, b, {
      progressInterval: 60_000,
      onProgress: (traffic) => void calls.push(traffic),
      ...(ending === 'timeout' ? { idleTimeout: 2_000 } : {}),
    });
    await peer.writeText(client, 'hello');
    await peer.readText(origin, 5);
    if (ending === 'abort') transfer.abort();
    if (ending === 'reset') await peer.reset(origin);
    const { traffic } = await failure(t, transfer);
    t.deepEqual(traffic, { tx: 5, rx: 0, total: 5 });
    t.deepEqual(calls, [traffic]);
  });
}

test('onProgress may modify the counts that it receives', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer);
  const onProgress = (traffic: Traffic) => void Object.assign(traffic, { tx: -1, rx: -1, total: -1 });
  const transfer = relay(a, b, { onProgress, progressInterval: 10 });
  Object.assign(transfer.traffic, { tx: -1 });
  await peer.writeText(client, 'hello');
  await peer.readText(origin, 5);
  await sleep(50);
  await Promise.all([peer.shutdown(client), peer.shutdown(origin)]);
  t.like(await transfer, { tx: 5, rx: 0, total: 5 });
  t.deepEqual(transfer.traffic, { tx: 5, rx: 0, total: 5 });
});

test('every callback runs in the async context of its transfer', async (t) => {
  const peer = Peer.start(t);
  const meet = await crossing(t, peer, 'tcp');
  const storage = new AsyncLocalStorage<number>();
  const running = async (id: number) => {
    const { a, b, client, origin } = await meet();
    const seen: (number | undefined)[] = [];
    const note = () => void seen.push(storage.getStore());
    await storage.run(id, async () => {
      const transfer = relay(a, b, { onProgress: note, progressInterval: 20 });
      transfer.then(note, note);
      await peer.writeText(client, 'hello');
      await until('a call while the relay runs', () => seen.length, Boolean);
      await peer.shutdown(client);
      // Another context ends the relay. Callbacks must not see that context.
      if (id % 2 === 0) await storage.run(-1, () => peer.shutdown(origin));
      else storage.run(-1, () => transfer.abort());
      await transfer.catch(note);
      t.is(storage.getStore(), id);
    });
    t.true(seen.length >= 3);
    t.deepEqual(new Set(seen), new Set([id]));
  };
  await within(30_000, 'all relays end', Promise.all(Array.from({ length: 8 }, (_, id) => running(id))));
});

test('a wrong onProgress and a wrong progressInterval are rejected', async (t) => {
  for (const wrong of [null, 'f', {}, 1]) {
    const options: object = { onProgress: wrong, reject: false };
    const expected = { code: 'ERR_INVALID_ARG_TYPE', instanceOf: TypeError, message: /onProgress/ };
    await t.throwsAsync(relay(0, 1, options), expected);
  }
  for (const wrong of [0, -1, NaN, Infinity, 2 ** 31]) {
    const expected = { code: 'ERR_OUT_OF_RANGE', instanceOf: RangeError, message: /progressInterval/ };
    await t.throwsAsync(copy(0, 1, { progressInterval: wrong, reject: false }), expected);
  }
});
