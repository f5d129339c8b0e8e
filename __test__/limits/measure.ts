// Measurements shared by the rate specs: endless senders, the rate at a receiver, and the allowance for a busy machine, on
// which a transfer cannot send while other processes hold the processors.
import { setTimeout as sleep } from 'node:timers/promises';

import type { ExecutionContext } from 'ava';
import { copy, type RateLimiter, relay, sendFile, type Transfer } from 'fdsplice';

import { GiB, MiB, sample } from '../helpers/copy-files.js';
import { withheld } from '../helpers/cpu-time.js';
import { pair } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';
import { until } from '../helpers/wait.js';

export type Kind = 'relay' | 'copy' | 'sendFile';
export const KINDS: Kind[] = ['relay', 'copy', 'sendFile'];

/** The contract allows 3 %. On a busy machine a receiver may read late what was sent in time. */
export const HIGHEST = 1.03;
export const LOWEST = 0.94;
/** Longer than the 2 s windows of the contract. */
export const WINDOW_MS = 2_100;
export const TRIES = 5;
/** A rate below this part of the limit fails on any machine, however busy. */
const FLOOR = 0.5;

/** A flow from a sender that never runs out of bytes, with the counts so far. */
export interface Flow {
  /** Counted at the receiver. */
  received: () => Promise<number>;
  /** The live count of the transfer. */
  moved: () => number;
}

/** More bytes than any test waits for. */
export const ENDLESS = 1024 * GiB;

export async function flow(t: ExecutionContext, kind: Kind, rateLimit: number | RateLimiter): Promise<Flow> {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer);
  void peer.readToEnd(origin).catch(() => {});
  const received = () => peer.counts(origin).then((counts) => counts.received);
  if (kind !== 'sendFile') {
    peer.write(client, ENDLESS, 1).catch(() => {});
    const transfer = kind === 'relay' ? relay(a, b, { rateLimit }) : copy(a, b, { rateLimit });
    t.teardown(() => transfer[Symbol.asyncDispose]());
    return { received, moved: () => transfer.traffic.tx };
  }
  // Sends the same file again and again, as one endless source.
  const { path } = sample(t, 32 * MiB);
  const stop = new AbortController();
  let [sent, current]: [number, Transfer | undefined] = [0, undefined];
  const sending = (async () => {
    while (!stop.signal.aborted) {
      current = sendFile(path, b, { rateLimit, signal: stop.signal, reject: false });
      const { tx } = await current;
      current = undefined;
      sent += tx;
    }
  })();
  t.teardown(async () => {
    stop.abort();
    await sending;
  });
  return { received, moved: () => sent + (current?.traffic.tx ?? 0) };
}

export async function mark(bytes: () => Promise<number> | number): Promise<{ bytes: number; at: number }> {
  const before = performance.now();
  const seen = await bytes();
  return { bytes: seen, at: (before + performance.now()) / 2 };
}

/** Bytes per second. */
export async function rateOver(bytes: () => Promise<number> | number, ms = WINDOW_MS): Promise<number> {
  const first = await mark(bytes);
  await sleep(ms);
  const last = await mark(bytes);
  return ((last.bytes - first.bytes) * 1000) / (last.at - first.at);
}

/**
 * Runs a measurement and returns with it the lowest acceptable part of the limit. While other processes hold the
 * processors that the transfers were ready to run on, no limiter could send.
 */
export async function withAllowance<T>(
  measure: () => Promise<T>,
): Promise<{ found: T; least: (lowest: number) => number }> {
  const [before, from] = [withheld(), performance.now()];
  const found = await measure();
  const part = (withheld() - before) / (performance.now() - from);
  return { found, least: (lowest) => Math.min(lowest, Math.max(FLOOR, lowest - part)) };
}

export async function started({ received }: Flow): Promise<void> {
  await until('bytes arrive', received, (bytes) => bytes > 0);
  // Skips the first burst.
  await sleep(200);
}

/** Measures several times, because one window on a busy machine proves little. */
export async function keepsRate(
  t: ExecutionContext,
  label: string,
  bytes: () => Promise<number> | number,
  rate: number,
  { lowest = LOWEST, highest = HIGHEST } = {},
): Promise<void> {
  const seen: string[] = [];
  for (let round = 0; round < TRIES; round += 1) {
    const { found, least } = await withAllowance(() => rateOver(bytes));
    const ratio = found / rate;
    seen.push(ratio.toFixed(3));
    if (ratio >= least(lowest) && ratio <= highest) {
      t.log(`${label}: ${seen.join(', ')} of the limit`);
      t.pass();
      return;
    }
  }
  t.fail(`${label}: ${seen.join(', ')} of the limit`);
}
