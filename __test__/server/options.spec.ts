import test from 'ava';
import { RateLimiter } from '../../lib/contract/rate-limiter.js';
import type { RelayServerOptions } from '../../lib/contract/server-types.js';
import { routeSpec } from '../../lib/contract/target.js';
import { serverSettings } from '../../lib/server/options.js';

const settings = (options: unknown) => serverSettings(options as RelayServerOptions);

test('server options: a target is given as text or as an object', (t) => {
  const texts = (route: Parameters<typeof routeSpec>[1]) => routeSpec('route', route).map(({ text }) => text);
  t.deepEqual(texts('127.0.0.1:80'), ['127.0.0.1:80']);
  t.deepEqual(texts('[::1]:0443'), ['[::1]:443']);
  t.deepEqual(texts('example.org:65535'), ['example.org:65535']);
  t.deepEqual(texts('unix:/run/app.sock'), ['unix:/run/app.sock']);
  t.deepEqual(texts([{ host: '::1', port: 80 }, { path: '/a' }]), ['[::1]:80', 'unix:/a']);
  t.deepEqual(texts({ host: '[::1]', port: 80 }), ['[::1]:80']);
});

test('server options: the options of a target are kept', (t) => {
  const route = [{ host: 'a', port: 1, localAddress: '127.0.0.2', connectTimeout: 50 }];
  t.deepEqual(routeSpec('route', route), [{ text: 'a:1', localAddress: '127.0.0.2', connectTimeout: 50 }]);
});

const mistakes: [text: string, options: unknown, name: string, code: string][] = [
  ['no options', undefined, '"options"', 'ERR_INVALID_ARG_TYPE'],
  ['an unknown option', { acceptProxy: true }, '"options.acceptProxy"', 'ERR_INVALID_ARG_VALUE'],
  ['a route without targets', { routes: [] }, '"options.routes"', 'ERR_INVALID_ARG_VALUE'],
  ['a target of a wrong type', { routes: ['a:1', 7] }, '"options.routes[1]"', 'ERR_INVALID_ARG_TYPE'],
  // eslint-disable-next-line no-sparse-arrays -- the hole is the mistake
  ['a hole in a list', { routes: ['a:1', , 'b:1'] }, '"options.routes[1]"', 'ERR_INVALID_ARG_TYPE'],
  ['null as a route', { routes: null }, '"options.routes"', 'ERR_INVALID_ARG_TYPE'],
  ['a target without a port', { routes: 'host' }, '"options.routes"', 'ERR_INVALID_ARG_VALUE'],
  ['port 0', { routes: 'host:0' }, '"options.routes"', 'ERR_INVALID_ARG_VALUE'],
  ['a port with a sign', { routes: 'host:+80' }, '"options.routes"', 'ERR_INVALID_ARG_VALUE'],
  ['an IPv6 address without brackets', { routes: '::1:80' }, '"options.routes"', 'ERR_INVALID_ARG_VALUE'],
  ['a name in brackets', { routes: '[a.org]:80' }, '"options.routes"', 'ERR_INVALID_ARG_VALUE'],
  ['no host', { routes: ':80' }, '"options.routes"', 'ERR_INVALID_ARG_VALUE'],
  ['an empty path', { routes: 'unix:' }, '"options.routes"', 'ERR_INVALID_ARG_VALUE'],
  [
    'a path that is too long',
    { routes: `unix:${'p'.repeat(108)}` },
    '"options.routes"',
    'ERR_INVALID_ARG_VALUE',
  ],
  ['an empty object as a target', { routes: [{}] }, '"options.routes[0].host"', 'ERR_INVALID_ARG_TYPE'],
  ['a port as text', { routes: { host: 'a', port: '1' } }, '"options.routes.port"', 'ERR_INVALID_ARG_TYPE'],
  ['a path and a port', { routes: { path: '/a', port: 1 } }, '"options.routes"', 'ERR_INVALID_ARG_VALUE'],
  [
    'an unknown option of a target',
    { routes: { path: '/a', weight: 1 } },
    '"options.routes.weight"',
    'ERR_INVALID_ARG_VALUE',
  ],
  [
    'a local address that is a name',
    { routes: { host: 'a', port: 1, localAddress: 'localhost' } },
    '"options.routes.localAddress"',
    'ERR_INVALID_ARG_VALUE',
  ],
  [
    'a local address of another family',
    { routes: { host: '[::1]', port: 1, localAddress: '127.0.0.1' } },
    '"options.routes.localAddress"',
    'ERR_INVALID_ARG_VALUE',
  ],
  [
    'a connect timeout of a target below 0',
    { routes: { host: 'a', port: 1, connectTimeout: -1 } },
    '"options.routes.connectTimeout"',
    'ERR_OUT_OF_RANGE',
  ],
  ['a route that is no function', { route: 'a:1' }, '"options.route"', 'ERR_INVALID_ARG_TYPE'],
  ['a time limit of 0', { routeTimeout: 0 }, '"options.routeTimeout"', 'ERR_OUT_OF_RANGE'],
  ['no connections', { maxConnections: 0 }, '"options.maxConnections"', 'ERR_OUT_OF_RANGE'],
  ['half a connection', { maxConnections: 1.5 }, '"options.maxConnections"', 'ERR_OUT_OF_RANGE'],
  ['no workers', { workers: 0 }, '"options.workers"', 'ERR_OUT_OF_RANGE'],
  ['keepAlive as a flag', { keepAlive: true }, '"options.keepAlive"', 'ERR_INVALID_ARG_TYPE'],
  ['zeroCopy as a number', { zeroCopy: 1 }, '"options.zeroCopy"', 'ERR_INVALID_ARG_TYPE'],
  ['a rate of 0', { rateLimit: 0 }, '"options.rateLimit"', 'ERR_OUT_OF_RANGE'],
  ['a rate of 0 one way', { rateLimit: { rx: 0 } }, '"options.rateLimit.rx"', 'ERR_OUT_OF_RANGE'],
];

for (const [text, options, name, code] of mistakes) {
  test(`server options: ${text}: a mistake that names ${name}`, (t) => {
    const error = t.throws(() => settings(options), { code });
    t.true(error.message.startsWith(`${name} `), error.message);
  });
}

test('server options: a number limits each connection, a limiter is shared', (t) => {
  t.deepEqual(settings({ rateLimit: 1000 }).rates, [1000, undefined, undefined]);
  t.deepEqual(settings({ rateLimit: Infinity }).rates, [undefined, undefined, undefined]);
  t.deepEqual(settings({ rateLimit: { tx: 5 } }).rates, [undefined, 5, undefined]);
  const [both] = settings({ rateLimit: new RateLimiter(1000) }).rates;
  t.is((both as { bytesPerSecond: number }).bytesPerSecond, 1000);
});

test('server options: the documented defaults', (t) => {
  const { routeTimeout, connectTimeout, keepAlive, zeroCopy } = settings({});
  t.deepEqual([routeTimeout, connectTimeout, keepAlive, zeroCopy], [5000, 10_000, 60_000, true]);
  t.is(settings({ keepAlive: false }).keepAlive, undefined);
});
