// Random relays between random ends, and the model that each relay is checked against.
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

import fc from 'fast-check';
import { RateLimiter, relay, type RelayOptions, type TrafficResult } from 'fdsplice';

import { descriptorOf } from '../descriptors.js';
import { isNative } from '../engine.js';
import type { Transport } from '../pair.js';
import { watch } from '../watch.js';
import { type Connection, head, type Outer } from './sockets.js';

type Side = 0 | 1;
const SIDES = ['a', 'b'] as const;

type Step =
  | { do: 'send'; side: Side; bytes: number }
  | { do: 'read' | 'stop reading' | 'half-close' | 'leave' | 'destroy'; side: Side }
  | { do: 'wait'; ms: number }
  | { do: 'abort' };

export interface RelaySchedule {
  transports: [Transport, Transport];
  /** Which ends are passed as descriptor numbers. */
  numbers: [boolean, boolean];
  heads: [number, number];
  /** Bytes that each peer sends before the relay begins. */
  early: [number, number];
  /** Whether Node reads them before the relay begins. */
  flowing: boolean;
  zeroCopy: boolean;
  pipeSize: number | undefined;
  rate: 'none' | 'number' | 'limiter' | 'each';
  timeouts: boolean;
  progress: boolean;
  bySignal: boolean;
  steps: Step[];
}

const side = fc.constantFrom<Side>(0, 1);
const size = fc.oneof(
  { weight: 5, arbitrary: fc.integer({ min: 1, max: 2000 }) },
  { weight: 3, arbitrary: fc.integer({ min: 2000, max: 70_000 }) },
  { weight: 1, arbitrary: fc.integer({ min: 70_000, max: 300_000 }) },
);
const maybe = fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: size });
const step = fc.oneof<fc.WeightedArbitrary<Step>[]>(
  { weight: 9, arbitrary: fc.record({ do: fc.constant('send' as const), side, bytes: size }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('read' as const), side }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('stop reading' as const), side }) },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.nat(2) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('half-close' as const), side }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('leave' as const), side }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('destroy' as const), side }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('abort' as const) }) },
);
const rarely = fc.nat(4).map((dice) => dice === 0);
const transport = fc.constantFrom<Transport>('tcp', 'tcp', 'unix');

export const relaySchedule: fc.Arbitrary<RelaySchedule> = fc.record({
  transports: fc.tuple(transport, transport),
  // The stream engine does not accept descriptor numbers of sockets.
  numbers: isNative ? fc.tuple(rarely, rarely) : fc.constant([false, false]),
  heads: fc.tuple(maybe, maybe),
  early: fc.tuple(maybe, maybe),
  flowing: fc.boolean(),
  zeroCopy: rarely.map((not) => !not),
  pipeSize: fc.constantFrom(undefined, undefined, 4096, 65_536),
  rate: fc.constantFrom('none', 'none', 'number', 'limiter', 'each'),
  timeouts: fc.boolean(),
  progress: fc.boolean(),
  bySignal: fc.boolean(),
  steps: fc.array(step, { maxLength: 20 }),
});

const RATE = 50 << 20;
const TIMEOUT_MS = 60_000;

function optionsOf(schedule: RelaySchedule, onProgress: () => void): RelayOptions {
  const { heads, rate, zeroCopy, pipeSize, timeouts, progress } = schedule;
  return {
    reject: false,
    zeroCopy,
    pipeSize,
    headFromA: head(heads[0]),
    headFromB: head(heads[1]),
    ...(rate === 'number' ? { rateLimit: RATE } : {}),
    ...(rate === 'limiter' ? { rateLimit: new RateLimiter(RATE) } : {}),
    ...(rate === 'each' ? { rateLimit: { tx: RATE } } : {}),
    ...(timeouts ? { idleTimeout: TIMEOUT_MS, halfCloseTimeout: TIMEOUT_MS } : {}),
    ...(progress ? { onProgress, progressInterval: 1 } : {}),
  };
}

/** Runs one schedule. Every result must report `engine`. */
export async function runRelay(
  engine: TrafficResult['engine'],
  make: (transport: Transport) => Promise<Connection>,
  schedule: RelaySchedule,
): Promise<void> {
  const made = [await make(schedule.transports[0]), await make(schedule.transports[1])] as const;
  const inner: readonly [Socket, Socket] = [made[0].inner, made[1].inner];
  const outer: readonly [Outer, Outer] = [made[0].outer, made[1].outer];
  const given = [0, 1].map((index) => schedule.numbers[index as Side]) as [boolean, boolean];
  for (const index of [0, 1] as const) {
    outer[index].send(schedule.early[index]);
    inner[index].on('error', () => undefined);
    // Bytes that Node reads are lost to a relay of the descriptor number.
    if (schedule.flowing && !given[index] && schedule.early[index] > 0) {
      inner[index].read(0);
      await sleep(1);
    }
  }
  let progressCalls = 0;
  const controller = new AbortController();
  const options = optionsOf(schedule, () => (progressCalls += 1));
  const transfer = relay(
    given[0] ? descriptorOf(inner[0]) : inner[0],
    given[1] ? descriptorOf(inner[1]) : inner[1],
    schedule.bySignal ? { ...options, signal: controller.signal } : options,
  );
  const seen = inner.map(watch);
  const destroyed = new Set<string>();
  let aborted = false;
  for (const step of schedule.steps) {
    switch (step.do) {
      case 'send':
        outer[step.side].send(step.bytes);
        break;
      case 'read':
        outer[step.side].socket.resume();
        break;
      case 'stop reading':
        outer[step.side].socket.pause();
        break;
      case 'half-close':
        outer[step.side].end();
        break;
      case 'leave':
        outer[step.side].leave();
        break;
      case 'destroy':
        // The relay has its own duplicate of a descriptor number, so destroying the socket does not affect it.
        if (given[step.side]) break;
        destroyed.add(SIDES[step.side]);
        inner[step.side].destroy();
        break;
      case 'abort':
        aborted = true;
        if (schedule.bySignal) controller.abort();
        else transfer.abort();
        break;
      case 'wait':
        await sleep(step.ms);
        break;
    }
  }
  for (const each of outer) each.end();
  const drained = Promise.all(outer.map((each) => each.drain()));
  const result = await transfer;
  // With descriptor numbers, the caller decides how to end the connection after a failure.
  for (const index of [0, 1] as const) {
    if (!given[index]) assert.ok(inner[index].destroyed, 'a socket that was handed over is destroyed');
    else if (result.error !== null && schedule.transports[index] === 'tcp') inner[index].resetAndDestroy();
    else inner[index].destroy();
  }
  await drained;
  for (const each of outer) each.socket.destroy();

  assert.equal(result.engine, engine);
  assert.equal(result.total, result.tx + result.rx);
  assert.ok(result.zeroCopy <= result.total);
  if (schedule.progress) assert.ok(progressCalls > 0, 'onProgress was called at the end');
  const counts = [result.tx, result.rx] as const;
  for (const from of [0, 1] as const) {
    const [source, sink] = [outer[from], outer[1 - from] as Outer];
    const stream = Buffer.concat([head(schedule.heads[from]), source.sent]);
    assert.ok(counts[from] <= stream.length, 'no more is counted than was sent');
    // A stream reports a chunk once all of it is accepted, so it does not count a chunk that a failure cut off.
    const isExact = isNative || result.error === null;
    assert.ok(!isExact || sink.received.length <= counts[from], 'no more arrives than is counted');
    assert.ok(stream.subarray(0, sink.received.length).equals(sink.received), 'altered bytes');
    if (result.error !== null) continue;
    // A peer that leaves drops the bytes that Node had not yet passed to the kernel.
    if (!source.gone) assert.equal(counts[from], stream.length, 'a clean end comes behind all bytes');
    if (!sink.gone) assert.deepEqual([sink.sawEnd, sink.received.length], [true, counts[from]]);
  }
  for (const [index, { end, close, error }] of seen.entries()) {
    assert.equal(error, 0, 'failures are in the result alone');
    if (!given[index as Side])
      assert.deepEqual([close, end <= 1], [1, true], "one 'close', at most one 'end'");
  }
  const { error } = result;
  if (error === null) return;
  assert.deepEqual(error.traffic, { tx: result.tx, rx: result.rx, total: result.total });
  if (error.code === 'ABORT_ERR') {
    assert.ok(error.side === undefined ? aborted : destroyed.has(error.side), `aborted by nobody: ${error}`);
  } else {
    const culprit = outer[error.side === 'a' ? 0 : 1];
    assert.ok(['ECONNRESET', 'EPIPE'].includes(error.code) && culprit.gone, `by nobody: ${error}`);
  }
}
