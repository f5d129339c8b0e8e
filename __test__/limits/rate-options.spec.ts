// Arguments of rate limits that are rejected: wrong values, wrong shapes and unknown names, each with its error code.
import { createRequire } from 'node:module';

import test from 'ava';
import { copy, RateLimiter, relay, sendFile } from 'fdsplice';

for (const rate of [0, -1, NaN, -Infinity, '1', 1n, null, undefined]) {
  const wrongType = typeof rate !== 'number';
  const code = wrongType ? 'ERR_INVALID_ARG_TYPE' : 'ERR_OUT_OF_RANGE';
  const instanceOf = wrongType ? TypeError : RangeError;

  test(`${typeof rate} ${String(rate)} is rejected as a rate limit`, async (t) => {
    const wrong = rate as number;
    const limiter = new RateLimiter(5);
    t.throws(() => new RateLimiter(wrong), { code, instanceOf, message: /bytesPerSecond/ });
    t.throws(() => (limiter.bytesPerSecond = wrong), { code, instanceOf });
    t.is(limiter.bytesPerSecond, 5);
    if (rate === undefined) return;
    t.throws(() => new RateLimiter(1, { burst: wrong }), { code, instanceOf, message: /burst/ });
    for (const [rateLimit, name] of [
      [wrong, 'rateLimit'],
      [{ tx: wrong }, 'rateLimit.tx'],
      [{ rx: wrong }, 'rateLimit.rx'],
    ] as const) {
      const expected = { code, instanceOf, message: new RegExp(`${name}\\b`) };
      await t.throwsAsync(relay(0, 1, { rateLimit, reject: false }), expected);
    }
    await t.throwsAsync(copy(0, 1, { rateLimit: wrong, reject: false }), { code, instanceOf });
    await t.throwsAsync(sendFile('.', 1, { rateLimit: wrong, reject: false }), { code, instanceOf });
  });
}

test('limits per direction are accepted by relay alone, and only as tx and rx', async (t) => {
  const each = { tx: 1 } as unknown as number;
  await t.throwsAsync(copy(0, 1, { rateLimit: each }), { code: 'ERR_INVALID_ARG_TYPE' });
  await t.throwsAsync(sendFile('.', 1, { rateLimit: each }), { code: 'ERR_INVALID_ARG_TYPE' });
  const misspelt = { tx: 1, up: 1 };
  await t.throwsAsync(relay(0, 1, { rateLimit: misspelt }), { code: 'ERR_INVALID_ARG_VALUE', message: /up/ });
});

test('an unknown option of a limiter is rejected with its name in the message', (t) => {
  const misspelt: object = { brust: 5 };
  t.throws(() => new RateLimiter(5, misspelt), { code: 'ERR_INVALID_ARG_VALUE', message: /brust/ });
  t.throws(() => new RateLimiter(5, [] as object), { code: 'ERR_INVALID_ARG_TYPE', message: /options/ });
  t.is(new RateLimiter(5, { burst: undefined }).bytesPerSecond, 5);
});

test('a limiter of another copy of the package is refused by all verbs, with the cause in the message', async (t) => {
  const load = createRequire(import.meta.url);
  delete load.cache[load.resolve('fdsplice')];
  const other = load('fdsplice') as { RateLimiter: typeof RateLimiter };
  const rateLimit = new other.RateLimiter(5);
  t.false(rateLimit instanceof RateLimiter);
  const expected = { code: 'ERR_INVALID_ARG_TYPE', message: /rateLimit.* of the same copy of fdsplice/ };
  await t.throwsAsync(copy(0, 1, { rateLimit }), expected);
  await t.throwsAsync(sendFile('.', 1, { rateLimit }), expected);
  await t.throwsAsync(relay(0, 1, { rateLimit }), expected);
  await t.throwsAsync(relay(0, 1, { rateLimit: { rx: rateLimit } }), expected);
});
