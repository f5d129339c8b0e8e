// Limits that copies on both engines share: the streams of Node's thread and the files of the core.
import { Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';

import test, { type ExecutionContext } from 'ava';
import { copy, RateLimiter } from 'fdsplice';

import { MiB, opened, sample } from '../helpers/copy-files.js';
import { isNative } from '../helpers/engine.js';
import { nothingIsLeft } from '../helpers/left.js';

nothingIsLeft(test, 'behind all tests');

/** Runs two copies of streams and one of a file under one limiter for a while, and compares their counts. */
async function sharing(t: ExecutionContext, rate: number, path: string) {
  const endless = (chunk: number) =>
    new Readable({
      read() {
        this.push(Buffer.alloc(chunk));
      },
    });
  const nothing = () => new Writable({ write: (_chunk, _encoding, callback) => callback() });
  const options = { rateLimit: new RateLimiter(rate), reject: false };
  const transfers = [
    copy(endless(65_536), nothing(), options),
    copy(endless(16_384), nothing(), options),
    copy(opened(t, path), isNative ? opened(t, '/dev/null', 'w') : nothing(), { ...options, start: 0 }),
  ];
  const look = () => ({ at: performance.now(), tx: transfers.map(({ traffic }) => traffic.tx) });
  await sleep(300);
  const before = look();
  await sleep(2500);
  const after = look();
  for (const transfer of transfers) transfer.abort();
  for (const { error } of await Promise.all(transfers)) t.is(error?.code, 'ABORT_ERR');
  const seconds = (after.at - before.at) / 1000;
  const shares = after.tx.map((tx, index) => tx - (before.tx[index] ?? 0));
  const sum = shares.reduce((total, share) => total + share);
  const fair = shares.map((share) => (share * shares.length) / sum);
  const kept = sum / seconds / rate;
  return {
    isEven: Math.abs(kept - 1) < 0.05 && fair.every((share) => Math.abs(share - 1) < 0.1),
    report: `${kept.toFixed(3)} of the limit, shares ${fair.map((share) => share.toFixed(2)).join(' ')}`,
  };
}

/** A busy machine needs several, because the threads of the two engines do not get equal time. */
const ATTEMPTS = 3;

// At the higher rate one quantum can be more than a stream has at once; a file always has enough.
for (const rate of [4 * MiB, 24 * MiB]) {
  const title = `a limiter of ${rate / MiB} MiB/s is kept and shared evenly by streams, also across both engines`;
  test(title, async (t) => {
    const { path } = sample(t, 3 * rate);
    for (let attempt = 1; attempt <= ATTEMPTS; attempt += 1) {
      const { isEven, report } = await sharing(t, rate, path);
      t.log(report);
      if (isEven) return;
    }
    t.fail('the shares are never even');
  });
}
