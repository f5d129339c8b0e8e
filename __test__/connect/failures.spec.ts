// connect(): every way to fail, and the mistakes of a caller.
import { constants } from 'node:os';
import { getEventListeners } from 'node:events';

import test, { type ExecutionContext } from 'ava';
import { connect, type ConnectOptions, type Target, TransferError } from 'fdsplice';

import { isNative } from '../helpers/engine.js';
import { nothingIsLeft } from '../helpers/left.js';
import { directory, nobody, serve } from '../helpers/local-peers.js';
import { Peer } from '../helpers/peer.js';
import { unansweredPort } from '../helpers/unanswered.js';
import { within } from '../helpers/wait.js';

nothingIsLeft(test, 'behind each test');

async function failureOf(
  t: ExecutionContext,
  target: Target,
  options?: ConnectOptions,
): Promise<TransferError> {
  const failed = connect(target, options).then(
    () => undefined,
    (error: unknown) => error,
  );
  const error = await within(20_000, 'the connect fails', failed);
  t.true(error instanceof TransferError, String(error));
  t.false('side' in (error as TransferError));
  t.deepEqual((error as TransferError).traffic, { tx: 0, rx: 0, total: 0 });
  return error as TransferError;
}

test.serial('a target that refuses fails with ECONNREFUSED of connect', async (t) => {
  const target = await nobody(t);
  const error = await failureOf(t, target);
  t.like(error, { code: 'ECONNREFUSED', errno: -constants.errno.ECONNREFUSED, syscall: 'connect' });
  t.is(
    String(error),
    `TransferError: connect to ${target} failed: ECONNREFUSED, connection refused, after 0 bytes`,
  );
  const byName = await failureOf(t, target.replace('127.0.0.1', 'localhost'));
  t.like(byName, { code: 'ECONNREFUSED', syscall: 'connect' });
});

test.serial('a path without a listener fails with ENOENT of connect', async (t) => {
  const path = `${await directory(t)}/socket`;
  t.like(await failureOf(t, { path }), {
    code: 'ENOENT',
    errno: -constants.errno.ENOENT,
    syscall: 'connect',
  });
});

test.serial('a name that does not exist fails with ENOTFOUND of getaddrinfo', async (t) => {
  const error = await failureOf(t, 'fdsplice.invalid:80', { timeout: 19_000 });
  // A machine without a resolver has no answer.
  t.true(['ENOTFOUND', 'EAI_AGAIN'].includes(error.code), error.code);
  t.is(error.syscall, 'getaddrinfo');
  t.is(error.errno, error.code === 'ENOTFOUND' ? -3008 : -3001);
});

test.serial('a local address that this machine does not have fails', async (t) => {
  const error = await failureOf(t, await nobody(t), { localAddress: '192.0.2.1' });
  t.like(error, { code: 'EADDRNOTAVAIL', syscall: 'connect' });
  t.regex(error.message, /in bind/);
});

for (const [what, options, target] of [
  ['timeout', { timeout: 100 }, {}],
  ["the target's connectTimeout", {}, { connectTimeout: 100 }],
  ['timeout, which comes before connectTimeout', { timeout: 100 }, { connectTimeout: 600_000 }],
] as const) {
  test.serial(`a target that does not answer fails with ETIMEDOUT after ${what}`, async (t) => {
    const port = Number(await unansweredPort(t, Peer.start(t)));
    const error = await failureOf(t, { host: '127.0.0.1', port, ...target }, options);
    t.like(error, { code: 'ETIMEDOUT', errno: -constants.errno.ETIMEDOUT, syscall: 'connect' });
  });
}

test.serial('an abort ends a connect with ABORT_ERR and its reason, and leaves no listener', async (t) => {
  const port = await unansweredPort(t, Peer.start(t));
  const stop = new AbortController();
  const failed = failureOf(t, `127.0.0.1:${port}`, { signal: stop.signal });
  const reason = new Error('enough');
  setTimeout(() => stop.abort(reason), 50);
  const error = await failed;
  t.like(error, { code: 'ABORT_ERR', name: 'AbortError', cause: reason });
  t.false('syscall' in error || 'errno' in error);
  t.is(getEventListeners(stop.signal, 'abort').length, 0);
});

test.serial('an abort ends a connect whose name is being resolved', async (t) => {
  const stop = new AbortController();
  const failed = failureOf(t, 'slow.fdsplice.invalid:80', { signal: stop.signal });
  stop.abort();
  t.like(await failed, { code: 'ABORT_ERR', name: 'AbortError' });
});

test.serial('with a signal that has aborted, no connection is made', async (t) => {
  let count = 0;
  const { port } = await serve(t, () => (count += 1));
  const reason = new Error('before');
  const error = await failureOf(t, `127.0.0.1:${port}`, { signal: AbortSignal.abort(reason) });
  t.like(error, { code: 'ABORT_ERR', cause: reason });
  const next = await connect(`127.0.0.1:${port}`);
  next.close();
  t.true(count <= 1);
});

test.serial('a signal leaves no listener behind a connect, and does not affect the connection', async (t) => {
  const { port } = await serve(t, () => undefined);
  const stop = new AbortController();
  const connection = await connect(`127.0.0.1:${port}`, { signal: stop.signal });
  t.is(getEventListeners(stop.signal, 'abort').length, 0);
  stop.abort();
  connection.close();
});

test.serial('a signal stops many connects at once', async (t) => {
  const port = await unansweredPort(t, Peer.start(t));
  const stop = new AbortController();
  const all = Array.from({ length: 100 }, () => failureOf(t, `127.0.0.1:${port}`, { signal: stop.signal }));
  setTimeout(() => stop.abort(), 50);
  for (const error of await Promise.all(all)) t.is(error.code, 'ABORT_ERR');
});

const TYPE = { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' };
const VALUE = { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE' };
const RANGE = { name: 'RangeError', code: 'ERR_OUT_OF_RANGE' };

const MISTAKES: [target: unknown, options: unknown, expected: object, names: string][] = [
  [undefined, undefined, TYPE, '"target"'],
  [80, undefined, TYPE, '"target"'],
  ['', undefined, VALUE, '"target"'],
  ['localhost', undefined, VALUE, '"target"'],
  ['localhost:0', undefined, VALUE, '"target"'],
  ['localhost:65536', undefined, VALUE, '"target"'],
  ['::1:80', undefined, VALUE, '"target"'],
  ['unix:', undefined, VALUE, '"target"'],
  [{ path: 'p'.repeat(108) }, undefined, VALUE, '"target.path"'],
  [{ host: 'a', port: 1.5 }, undefined, VALUE, '"target.port"'],
  [{ host: 'a', port: '80' }, undefined, TYPE, '"target.port"'],
  [{ host: 'a', port: 80, weight: 1 }, undefined, VALUE, '"target.weight"'],
  [{ host: 'a', port: 80, sendProxy: 1 }, undefined, VALUE, '"target.sendProxy"'],
  ['127.0.0.1:80', null, TYPE, '"options"'],
  ['127.0.0.1:80', { proxyHeader: { version: 1 } }, VALUE, '"options.proxyHeader"'],
  ['127.0.0.1:80', { timeOut: 1 }, VALUE, '"options.timeOut"'],
  ['127.0.0.1:80', { timeout: 0 }, RANGE, '"options.timeout"'],
  ['127.0.0.1:80', { timeout: Infinity }, RANGE, '"options.timeout"'],
  ['127.0.0.1:80', { timeout: '1' }, TYPE, '"options.timeout"'],
  ['127.0.0.1:80', { signal: {} }, TYPE, '"options.signal"'],
  ['127.0.0.1:80', { localAddress: 1 }, TYPE, '"options.localAddress"'],
  ['127.0.0.1:80', { localAddress: 'localhost' }, VALUE, '"options.localAddress"'],
  ['127.0.0.1:80', { localAddress: '::1' }, VALUE, '"options.localAddress"'],
  ['unix:/a', { localAddress: '127.0.0.1' }, VALUE, '"options.localAddress"'],
];

test.serial("a caller's mistake rejects with Node's code and names the argument", async (t) => {
  for (const [target, options, expected, names] of MISTAKES) {
    const rejected = connect(target as Target, options as ConnectOptions);
    const error = (await rejected.catch((error: unknown) => error)) as Error;
    t.like(error, expected, `${JSON.stringify([target, options])}: ${error}`);
    t.true(error.message.startsWith(names), error.message);
  }
  // A zone that is no number: the core takes numbers alone, Node names of interfaces as well.
  if (isNative) await t.throwsAsync(connect('[fe80::1%nowhere]:80'), { code: 'ERR_INVALID_ARG_VALUE' });
});
