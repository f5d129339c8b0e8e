// fdsplice/http-proxy: with the adapter, upgraded connections of each package have the bytes, events, errors and counts that
// they have without it. What differs is named in the test.
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';

import test, { type ExecutionContext } from 'ava';
import type { Traffic } from 'fdsplice';

import { relayUpgrades } from 'fdsplice/http-proxy';
import { isNative } from '../helpers/engine.js';
import { sha256 } from '../helpers/local-peers.js';
import { type Conversation, observe, packages, type Scenario, type Seen } from '../helpers/upgrades.js';
import { until } from '../helpers/wait.js';

const MiB = 1 << 20;

/** Waits until both sides have received a message of the other one. */
async function greet({ client, received, target, taken }: Conversation): Promise<void> {
  client.write('hello');
  target.write('world');
  await until(
    'both messages',
    () => `${taken().toString()} ${received().toString()}`,
    (text) => text === 'hello world',
  );
}

/** Conversations that are the same with and without the adapter. */
const same: Record<string, Scenario> = {
  'a clean end by the client': {
    talk: async (made) => {
      await greet(made);
      made.client.end();
    },
  },
  'a clean end by the target': {
    talk: async (made) => {
      await greet(made);
      made.target.end();
    },
  },
  'a clean end without a byte': { talk: ({ client }) => void client.end() },
  'an answer after the end of the client': {
    talk: async ({ client, received, target }) => {
      target.removeAllListeners('end').on('end', () => target.end('answer'));
      client.end('question');
      await until(
        'the answer',
        () => received().toString(),
        (text) => text === 'answer',
      );
    },
  },
  'bytes together with the handshake on both sides': {
    heads: { client: 'early question', target: 'early answer' },
    talk: async ({ client, received, taken }) => {
      await until(
        'both heads',
        () => [taken().toString(), received().toString()].join(),
        (text) => text === 'early question,early answer',
      );
      client.end();
    },
  },
  'bulk in both directions': {
    talk: async ({ client, received, target, taken }) => {
      const [question, answer] = [randomBytes(8 * MiB), randomBytes(8 * MiB)];
      client.write(question);
      target.write(answer);
      await until(
        'all bytes',
        () => taken().length + received().length,
        (count) => count === 16 * MiB,
      );
      if (sha256(taken()) !== sha256(question) || sha256(received()) !== sha256(answer))
        throw new Error('other bytes');
      client.end();
    },
  },
};

/** A reset by one side. */
function reset(side: 'client' | 'target', before: (made: Conversation) => Promise<void>): Scenario {
  const talk = async (made: Conversation) => {
    await before(made);
    made[side].resetAndDestroy();
  };
  return { talk };
}

async function observeBoth(t: ExecutionContext, name: string, scenario: Scenario) {
  const without = await observe(t, name, undefined, scenario);
  return { without, seen: await observe(t, name, {}, scenario) };
}

for (const name of Object.keys(packages)) {
  for (const [title, scenario] of Object.entries(same)) {
    test(`${name}: ${title} is seen as without the adapter`, async (t) => {
      const { without, seen } = await observeBoth(t, name, scenario);
      t.deepEqual(seen, without);
      t.deepEqual(
        without.proxy.map((event) => event.split(' ')[0]),
        ['open', 'close'],
      );
    });
  }

  for (const [when, before] of [
    ['before bytes', () => Promise.resolve()],
    ['after bytes', greet],
  ] as [string, (made: Conversation) => Promise<void>][]) {
    test(`${name}: a reset of the target ${when} is an 'error' of the proxy, and resets the client`, async (t) => {
      const { without, seen } = await observeBoth(t, name, reset('target', before));
      t.deepEqual(without.proxy, ['open', 'error read ECONNRESET']);
      t.deepEqual(pick(seen, 'proxy', 'upstream', 'target'), pick(without, 'proxy', 'upstream', 'target'));
      // The package ends the client as if all bytes had arrived.
      t.deepEqual(
        [without.client, seen.client],
        [name === 'http-proxy-middleware' ? without.client : 'end', 'ECONNRESET'],
      );
    });

    test(`${name}: a reset of the client ${when} is a 'close' of the proxy, and resets the target`, async (t) => {
      const { without, seen } = await observeBoth(t, name, reset('client', before));
      t.deepEqual(pick(seen, 'proxy', 'front'), pick(without, 'proxy', 'front'));
      t.deepEqual([without.target, seen.target], ['end', 'ECONNRESET']);
      t.deepEqual(seen.upstream, ['close false']);
    });
  }

  test(`${name}: a reset while bytes move is reported once, on either side`, async (t) => {
    for (const side of ['client', 'target'] as const) {
      const scenario: Scenario = {
        talk: async (made) => {
          const [gone, left] = side === 'client' ? [made.client, made.target] : [made.target, made.client];
          const send = () =>
            void (gone.destroyed || (gone.write(Buffer.alloc(MiB)), left.write(Buffer.alloc(MiB))));
          gone.on('drain', send);
          send();
          await once(left, 'data');
          await until(
            'bytes',
            () => made.taken().length + made.received().length,
            (count) => count > MiB,
          );
          gone.resetAndDestroy();
        },
      };
      const seen = await observe(t, name, {}, scenario);
      // Either call on the socket may be the one that meets the reset.
      const proxy = seen.proxy.map((event) => event.replace('error write', 'error read'));
      const lost = ['open', 'error read ECONNRESET'];
      const closed = ['open', 'close 101 true 0'];
      // http-proxy-3 reports an error of the client, too.
      const ofClient = name === 'http-proxy-3' ? [...lost, ...closed.slice(1)] : closed;
      // Node may report a reset that follows bytes as an end, and the stream engine then sees an end.
      if (isNative) t.deepEqual(proxy, side === 'client' ? ofClient : lost);
      else t.true([ofClient, lost, closed].map(String).includes(String(proxy)), String(proxy));
    }
  });
}

for (const name of Object.keys(packages)) {
  test.serial(`${name}: a second call of relayUpgrades for a proxy replaces the options`, async (t) => {
    const counts: number[] = [];
    const onProgress = ({ total }: Traffic) => void counts.push(total);
    const scenario: Scenario = {
      prepare: (proxy) => relayUpgrades(proxy, { onProgress }),
      talk: async (made) => {
        await greet(made);
        made.client.end();
      },
    };
    const seen = await observe(t, name, { onProgress: () => t.fail() }, scenario);
    t.deepEqual(seen.proxy, ['open', 'close 101 true 0']);
    t.is(counts.at(-1), 10);
  });

  test.serial(
    `${name}: a mistake in the options is an 'error' of the proxy and closes both sockets`,
    async (t) => {
      const seen = await observe(t, name, { idleTimeout: -1 }, { talk: () => undefined });
      t.is(seen.proxy.length, 2);
      t.regex(seen.proxy[1] ?? '', /^error "options\.idleTimeout" must be /);
      t.deepEqual([seen.client, seen.target], ['end', 'end']);
    },
  );
}

function pick(seen: Seen, ...keys: (keyof Seen)[]): Partial<Seen> {
  return Object.fromEntries(keys.map((key) => [key, seen[key]]));
}
