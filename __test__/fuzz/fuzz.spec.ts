// Fuzzing: random JavaScript values for every argument and option, random text for the parsers of the command line. Only
// documented errors may result, and no descriptor or transfer may be left.
import assert from 'node:assert/strict';
import { closeSync, openSync } from 'node:fs';
import { createRequire } from 'node:module';

import test from 'ava';
import fc from 'fast-check';
import { capabilities, copy, RateLimiter, relay, sendFile, TransferError } from 'fdsplice';

import { parseListenAddress, parseTargetAddress, formatAddress } from '../../lib/contract/address-text.js';
import { countArgument, durationArgument, rateArgument } from '../../lib/cli/arguments.js';
import { parseEndpoint } from '../../lib/cli/endpoint-spec.js';
import { escapeControls } from '../../lib/cli/text.js';
import { isNative, nativeTest } from '../helpers/engine.js';
import { leavesNothing } from '../helpers/left.js';

const RUNS = process.env['FDSPLICE_FULL'] === '1' ? 20_000 : 2000;
const CODES = ['ERR_INVALID_ARG_TYPE', 'ERR_INVALID_ARG_VALUE', 'ERR_OUT_OF_RANGE', 'EBADF'];
if (!isNative) CODES.push('ERR_FEATURE_UNAVAILABLE_ON_PLATFORM');

/** Any kind of value. */
const anything = fc.oneof(
  fc.anything({
    withBigInt: true,
    withDate: true,
    withMap: true,
    withSet: true,
    withTypedArray: true,
    withNullPrototype: true,
  }),
  fc.constantFrom<unknown>(
    undefined,
    null,
    NaN,
    Infinity,
    -Infinity,
    -0,
    0.5,
    -1,
    2 ** 31,
    2 ** 32,
    2 ** 53,
    -(2 ** 53),
    1e308,
    '',
    '0',
    [],
    {},
    () => undefined,
    Symbol('any'),
    10n,
    new Date(),
    /x/,
    new Map(),
    new ArrayBuffer(8),
    new Proxy({}, {}),
    new AbortController(),
    AbortSignal.abort(),
    Promise.resolve(),
    Object.create(null),
    new Error('x'),
  ),
);
/** Any value except a number that may be an open descriptor or a string that may be a path. */
const notOpen = anything.filter(
  (value) => typeof value !== 'string' && !(typeof value === 'number' && value >= 0 && value < 2 ** 20),
);

const OPTIONS = [
  'signal',
  'rateLimit',
  'idleTimeout',
  'onProgress',
  'progressInterval',
  'zeroCopy',
  'pipeSize',
  'reject',
  'start',
  'length',
  'position',
  'endDestination',
  'head',
  'end',
  'headFromA',
  'headFromB',
  'halfCloseTimeout',
  'other',
];
/** A transfer with less than a byte per second waits for its first byte longer than a test can. */
function isTooSlow(given: unknown): boolean {
  const limit = (given as { rateLimit?: unknown } | null | undefined)?.rateLimit;
  return typeof limit === 'number' && limit > 0 && limit < 1;
}

const options = fc
  .oneof(anything, fc.dictionary(fc.constantFrom(...OPTIONS), anything, { maxKeys: 4 }))
  .filter((given) => !isTooSlow(given));

/** Whether an error is one that the documentation lists. */
function isDocumented(error: unknown): boolean {
  if (error instanceof TransferError) return true;
  return error instanceof Error && 'code' in error && CODES.includes(String(error.code));
}

type Verb = (first: unknown, second: unknown, options: unknown) => PromiseLike<unknown>;
const seedOf = () => Number(process.env['FDSPLICE_SEED'] ?? Math.floor(Math.random() * 2 ** 31));

for (const [name, verb] of Object.entries({ relay, copy, sendFile } as unknown as Record<string, Verb>)) {
  test.serial(
    `${name}: any value in any argument gives a result or a rejection with a documented code`,
    async (t) => {
      const seed = seedOf();
      t.log(`FDSPLICE_SEED=${seed}`);
      const nothing = openSync('/dev/null', 'r+');
      t.teardown(() => closeSync(nothing));
      await leavesNothing(t, async () => {
        const property = fc.asyncProperty(
          fc.oneof(notOpen, fc.constant(nothing)),
          fc.oneof(notOpen, fc.constant(nothing)),
          options,
          async (first, second, given) => {
            let answer;
            try {
              answer = verb(first, second, given);
            } catch (error) {
              throw new Error('it throws instead of rejecting', { cause: error });
            }
            try {
              await answer;
            } catch (error) {
              if (!isDocumented(error)) throw error;
            }
          },
        );
        const details = await fc.check(property, { seed, numRuns: RUNS });
        t.false(
          details.failed,
          `${fc.defaultReportMessage(details) ?? ''}\n${String(details.errorInstance)}`,
        );
      });
    },
  );
}

test('RateLimiter: any value in any argument is accepted or rejected with a documented code', (t) => {
  const seed = seedOf();
  t.log(`FDSPLICE_SEED=${seed}`);
  const make = RateLimiter as unknown as new (rate: unknown, options?: unknown) => RateLimiter;
  const property = fc.property(
    anything,
    fc.oneof(anything, fc.record({ burst: anything })),
    (rate, given) => {
      try {
        const limiter = new make(rate, given);
        Reflect.set(limiter, 'bytesPerSecond', rate);
        return limiter.bytesPerSecond > 0;
      } catch (error) {
        return isDocumented(error);
      }
    },
  );
  const details = fc.check(property, { seed, numRuns: RUNS });
  t.false(details.failed, fc.defaultReportMessage(details));
});

function isRejection(error: unknown): boolean {
  return error instanceof Error && !(error instanceof assert.AssertionError);
}

/** Asserts that a member of the addon is a function. Without the check, a misspelt name would pass as an error. */
function asFunction(value: unknown): (...args: unknown[]) => unknown {
  if (typeof value === 'function') return value as (...args: unknown[]) => unknown;
  throw new assert.AssertionError({ message: 'there is no such function' });
}

nativeTest('the addon: any value in any argument is an error, never a crash', async (t) => {
  const seed = seedOf();
  t.log(`FDSPLICE_SEED=${seed}`);
  const load = createRequire(import.meta.url);
  const native = load(`../../fdsplice.${capabilities().platform}.node`) as Record<
    string,
    (...args: unknown[]) => unknown
  >;
  const names = ['openEnd', 'isSame', 'capabilities', 'stats', 'cork'];
  const classes = ['NativeEnd', 'NativeRateLimiter', 'NativeFiles', 'Dispatcher'];
  const call = fc.property(fc.constantFrom(...names), fc.array(notOpen, { maxLength: 4 }), (name, args) => {
    try {
      asFunction(native[name])(...args);
    } catch (error) {
      return isRejection(error);
    }
    return true;
  });
  const build = fc.property(
    fc.constantFrom(...classes),
    fc.array(notOpen, { maxLength: 3 }),
    (name, args) => {
      try {
        const made = Reflect.construct(
          asFunction(native[name]) as unknown as new () => object,
          args,
        ) as Record<string, unknown>;
        if (name !== 'NativeRateLimiter') return true;
        made['bytesPerSecond'] = args[1] ?? NaN;
      } catch (error) {
        return isRejection(error);
      }
      return true;
    },
  );
  for (const property of [call, build]) {
    const details = fc.check(property, { seed, numRuns: RUNS });
    t.false(details.failed, fc.defaultReportMessage(details));
  }
  const made = (name: string, ...args: unknown[]) =>
    Reflect.construct(asFunction(native[name]), args) as Record<string, unknown>;
  const files = made('NativeFiles', () => {});
  const dispatcher = made('Dispatcher', () => {}, files);
  const nothing = openSync('/dev/null', 'r+');
  t.teardown(() => closeSync(nothing));
  const objects = [
    files,
    dispatcher,
    made('NativeStreamEntry'),
    asFunction(made('NativeRateLimiter', 1e6)['throttle']).call(made('NativeRateLimiter', 1e6)),
    asFunction(native['openEnd'])(nothing, 'source', false),
  ] as Record<string, unknown>[];
  // All methods of the prototypes, so that new ones are fuzzed as well.
  const methods = objects.flatMap((object) => {
    const { constructor, ...rest } = Object.getOwnPropertyDescriptors(Object.getPrototypeOf(object));
    t.truthy(constructor);
    const names = Object.entries(rest).filter(([, { value }]) => typeof value === 'function');
    return names.map(([name]): [Record<string, unknown>, string] => [object, name]);
  });
  t.true(methods.length > 15, `${methods.length} methods`);
  const use = fc.asyncProperty(
    fc.constantFrom(...methods),
    fc.array(notOpen, { maxLength: 6 }),
    async ([object, name], args) => {
      try {
        await asFunction(object[name]).call(object, ...args);
      } catch (error) {
        return isRejection(error);
      }
      return true;
    },
  );
  const details = await fc.check(use, { seed, numRuns: RUNS });
  t.false(details.failed, fc.defaultReportMessage(details));
});

/** Text that resembles valid arguments. */
const text = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 40 }),
  fc
    .array(
      fc.constantFrom(
        '127.0.0.1',
        '[::1]',
        ':',
        'unix:',
        'tcp:',
        'listen:',
        '-',
        '0',
        '80',
        '65536',
        '10MiB',
        '5s',
        '.',
        '/',
        '\n',
        '\u001b',
        'ä',
        '%eth0',
        '[',
        ']',
        '1e9',
        'Infinity',
      ),
      { maxLength: 6 },
    )
    .map((parts) => parts.join('')),
);

for (const [name, parse] of Object.entries({
  parseListenAddress,
  parseTargetAddress,
  parseEndpoint,
  rateArgument,
  durationArgument,
  countArgument,
}) as [string, (text: string) => unknown][]) {
  test(`${name}: any text is parsed or rejected with a reason`, (t) => {
    const seed = seedOf();
    t.log(`FDSPLICE_SEED=${seed}`);
    const property = fc.property(text, (given) => {
      let value;
      try {
        value = parse(given);
      } catch (error) {
        return error instanceof Error && !(error instanceof TypeError) && error.message.length > 5;
      }
      if (typeof value === 'number') return value > 0 && Number.isFinite(value);
      if (name === 'parseEndpoint') return true;
      // A parsed address can be formatted, and parses to the same value again.
      const written = formatAddress(value as Parameters<typeof formatAddress>[0]);
      t.deepEqual(parse(written), value);
      return true;
    });
    const details = fc.check(property, { seed, numRuns: RUNS });
    t.false(details.failed, fc.defaultReportMessage(details));
  });
}

test('escaped text never moves a cursor or starts a line, whatever its input', (t) => {
  const property = fc.property(
    fc.string({ unit: 'binary' }),
    (given) => !/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u.test(escapeControls(given)),
  );
  const details = fc.check(property, { numRuns: RUNS });
  t.false(details.failed, fc.defaultReportMessage(details));
});
