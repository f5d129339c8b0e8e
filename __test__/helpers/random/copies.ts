// Random sequences of copies between two sockets, and the model that each copy is checked against.
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

import fc from 'fast-check';
import { copy, type CopyOptions, type TrafficResult } from 'fdsplice';

import { descriptorOf } from '../descriptors.js';
import { isNative } from '../engine.js';
import type { Transport } from '../pair.js';
import { type Connection, head } from './sockets.js';

interface Part {
  length: number | undefined;
  head: number;
  /** Sizes of the writes of the source's peer after the copy has begun. */
  sends: number[];
  /** Milliseconds until the copy is aborted. */
  abortAfter: number | undefined;
  rateLimit: number | undefined;
  zeroCopy: boolean;
}

export interface CopySchedule {
  transports: [Transport, Transport];
  numbers: [boolean, boolean];
  /** Bytes that arrive before the first copy, read by Node or not. */
  early: number;
  /** Whether the destination's peer reads from the start or only at the end. */
  reads: boolean;
  parts: Part[];
}

const size = fc.oneof(fc.integer({ min: 1, max: 3000 }), fc.integer({ min: 3000, max: 150_000 }));
const maybe = fc.oneof({ weight: 2, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: size });
const transport = fc.constantFrom<Transport>('tcp', 'unix');
const rarely = fc.nat(3).map((dice) => dice === 0);

const part: fc.Arbitrary<Part> = fc.record({
  length: fc.option(fc.oneof(fc.constant(0), size), { nil: undefined }),
  head: maybe,
  sends: fc.array(size, { maxLength: 4 }),
  abortAfter: fc.option(fc.nat(4), { nil: undefined }),
  rateLimit: fc.constantFrom(undefined, undefined, 30 << 20),
  zeroCopy: rarely.map((not) => !not),
});

export const copySchedule: fc.Arbitrary<CopySchedule> = fc.record({
  transports: fc.tuple(transport, transport),
  // The stream engine does not accept descriptor numbers of sockets.
  numbers: isNative ? fc.tuple(rarely, rarely) : fc.constant([false, false]),
  early: maybe,
  reads: fc.boolean(),
  parts: fc.array(part, { minLength: 1, maxLength: 3 }),
});

export async function runCopy(
  engine: TrafficResult['engine'],
  make: (transport: Transport) => Promise<Connection>,
  schedule: CopySchedule,
): Promise<void> {
  const from = await make(schedule.transports[0]);
  const to = await make(schedule.transports[1]);
  from.outer.send(schedule.early);
  if (schedule.reads) to.outer.socket.resume();
  /** The bytes that the destination must receive. */
  const arrives: Buffer[] = [];
  /** The offset in the source's stream behind the bytes that copies consumed. */
  let position = 0;
  for (const part of schedule.parts) {
    const options: CopyOptions = { reject: false, head: head(part.head), zeroCopy: part.zeroCopy };
    if (part.length !== undefined) options.length = part.length;
    if (part.rateLimit !== undefined) options.rateLimit = part.rateLimit;
    const transfer = copy(
      schedule.numbers[0] ? descriptorOf(from.inner) : from.inner,
      schedule.numbers[1] ? descriptorOf(to.inner) : to.inner,
      options,
    );
    for (const bytes of part.sends) {
      from.outer.send(bytes);
      await sleep(0);
    }
    // A copy without a length, or with more length than the peer sends, does not end by itself.
    await sleep(part.abortAfter ?? 2);
    const wanted = part.length ?? Infinity;
    // Neither does a copy whose bytes may not fit: earlier copies fill a destination that nothing reads.
    const waiting = arrives.reduce((sum, { length }) => sum + length, wanted + part.head);
    const enough = from.outer.issued - position >= wanted && (schedule.reads || waiting < 1000);
    const aborts = part.abortAfter !== undefined || !enough;
    if (aborts) transfer.abort();
    const { tx, rx, total, zeroCopy, error, engine: used } = await transfer;
    assert.deepEqual([rx, total, used], [0, tx, engine]);
    assert.ok(zeroCopy <= tx);
    const stream = from.outer.sent.subarray(position);
    const all = Buffer.concat([head(part.head), stream.subarray(0, Math.min(wanted, stream.length))]);
    assert.ok(tx <= all.length, 'no more is counted than there was');
    arrives.push(all.subarray(0, tx));
    const back = error?.undelivered ?? Buffer.alloc(0);
    assert.ok(all.subarray(tx, tx + back.length).equals(back), 'other bytes come back');
    if (!schedule.numbers[0]) assert.equal(back.length, 0, 'a socket gets its bytes back itself');
    position += Math.max(0, tx + back.length - part.head);
    if (error === null) assert.equal(tx, all.length, 'a clean end comes behind all bytes');
    else assert.deepEqual([error.code, aborts], ['ABORT_ERR', true], String(error));
    if (schedule.numbers[0] && back.length > 0) break;
  }
  // Node can still read the rest of the source and write to the destination.
  from.outer.end();
  const rest: Buffer[] = [];
  from.inner.on('data', (data: Buffer) => rest.push(data)).resume();
  if (!from.inner.readableEnded) await new Promise((resolve) => from.inner.once('end', resolve));
  assert.ok(
    Buffer.concat(rest).equals(from.outer.sent.subarray(position)),
    'the source lost or kept too much',
  );
  to.inner.end('behind it');
  await to.outer.drain();
  const expected = Buffer.concat([...arrives, Buffer.from('behind it')]);
  assert.ok(to.outer.received.equals(expected), 'altered bytes');
  for (const { inner, outer } of [from, to]) {
    inner.destroy();
    outer.socket.destroy();
  }
}
