import { AsyncLocalStorage } from 'node:async_hooks';
import { setImmediate } from 'node:timers/promises';
import test from 'ava';
import type { Incoming } from '../../lib/contract/server-types.js';
import { Decisions } from '../../lib/server/decisions.js';
import type { Decide } from '../../lib/server/options.js';
import { RouteTable } from '../../lib/server/route-table.js';

const incoming = (id: number): Incoming => ({
  id,
  listener: 0,
  remoteAddress: { address: '127.0.0.1', port: 1, family: 'IPv4' },
  localAddress: { address: '127.0.0.1', port: 2, family: 'IPv4' },
});

function decisions(decide: Decide, late: number[] = []) {
  const registered: string[] = [];
  const sent: number[][] = [];
  const table = new RouteTable((targets) => registered.push(targets.map(({ text }) => text).join()) - 1);
  const made = new Decisions(decide, table, (pairs) => {
    sent.push(pairs);
    return late;
  });
  return { made, registered, sent };
}

test('decisions: answers that are there at once leave in one call', (t) => {
  const routes = ['a:1', 'b:1', null, 'a:1'];
  const { made, registered, sent } = decisions(({ id }) => routes[id] ?? null);
  made.ask([0, 1, 2, 3].map(incoming));
  t.deepEqual(sent, [[0, 0, 1, 1, 2, -1, 3, 0]]);
  t.deepEqual(registered, ['a:1', 'b:1']);
});

test('decisions: promises that settle together are answered in one call', async (t) => {
  const { made, sent } = decisions(({ id }) => Promise.resolve(id === 0 ? 'a:1' : null));
  made.ask([incoming(0), incoming(1)]);
  t.deepEqual(sent, []);
  await setImmediate();
  t.deepEqual(sent, [[0, 0, 1, -1]]);
});

test('decisions: a callback that throws fails its connection alone, and the cause is kept once', (t) => {
  const cause = new Error('no');
  const { made, sent } = decisions(({ id }) => {
    if (id === 0) throw cause;
    return 'a:1';
  });
  made.ask([incoming(0), incoming(1)]);
  t.deepEqual(sent, [[0, -2, 1, 0]]);
  t.is(made.takeCause(0), cause);
  t.is(made.takeCause(0), undefined);
});

test('decisions: a rejection and a value that is no route fail their connections', async (t) => {
  const cause = new Error('later');
  const { made, sent } = decisions(({ id }) => (id === 0 ? Promise.reject(cause) : (7 as never)));
  made.ask([incoming(0), incoming(1)]);
  await setImmediate();
  t.deepEqual(sent, [[1, -2], [0, -2]]); // prettier-ignore
  t.is(made.takeCause(0), cause);
  t.is((made.takeCause(1) as NodeJS.ErrnoException).code, 'ERR_INVALID_ARG_TYPE');
});

test('decisions: a thenable that calls back twice is answered once', async (t) => {
  const twice = {
    then(resolve: (route: string) => void) {
      resolve('a:1');
      resolve('b:1');
    },
  };
  const { made, sent } = decisions(() => twice as never);
  made.ask([incoming(5)]);
  await setImmediate();
  t.deepEqual(sent, [[5, 0]]);
});

test('decisions: the cause of an answer that came too late is not kept', (t) => {
  const { made } = decisions(() => {
    throw new Error('late');
  }, [3]);
  made.ask([incoming(3)]);
  t.is(made.takeCause(3), undefined);
});

test('decisions: the callback runs in the async context in which the server was made', (t) => {
  const storage = new AsyncLocalStorage<string>();
  const seen: unknown[] = [];
  const { made } = storage.run('maker', () =>
    decisions(() => {
      seen.push(storage.getStore());
      return null;
    }),
  );
  storage.run('other', () => made.ask([incoming(0)]));
  t.deepEqual(seen, ['maker']);
});
