// `fdsplice relay` with several targets.
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';

import { type ConnectionEvent, portOf, Relay } from '../helpers/cli/cli.js';
import { connect, dial, directory, endingOf, exchange, nobody, serve } from '../helpers/local-peers.js';

/** A relay on a free port to several targets. */
async function relayTo(t: ExecutionContext, targets: string[], options: string[] = []) {
  const relay = new Relay(t, ['--json', ...options, '127.0.0.1:0', ...targets]);
  const { address } = await relay.event<{ event: 'listening'; address: string }>('listening');
  return { relay, port: portOf(address) };
}

/** A server that answers every connection with a name. */
async function named(t: ExecutionContext, name: string, at?: { path: string }): Promise<string> {
  const { port } = await serve(t, (socket) => socket.resume().on('end', () => socket.end(name)), at);
  return at === undefined ? `127.0.0.1:${port}` : `unix:${at.path}`;
}

for (const options of [[], ['--balance', 'round-robin']]) {
  test(`several targets take turns: ${options.join(' ') || 'by default'}`, async (t) => {
    const path = join(await directory(t), 'third');
    const targets = [await named(t, 'first'), await named(t, 'second'), await named(t, 'third', { path })];
    const { relay, port } = await relayTo(t, targets, options);

    const answers: string[] = [];
    for (let index = 0; index < 7; index += 1) {
      answers.push(String(await exchange(await connect(t, { port }), randomBytes(10))));
      await relay.connection(index);
    }
    t.deepEqual(answers, ['first', 'second', 'third', 'first', 'second', 'third', 'first']);
    t.deepEqual(
      relay.events<ConnectionEvent>('connection').map(({ target }) => target),
      [...targets, ...targets, targets[0]],
    );
    t.is(await relay.stop(), 0);
  });
}

test('a target that refuses fails its own connections and no others', async (t) => {
  const targets = [await named(t, 'first'), await nobody(t)];
  const { relay, port } = await relayTo(t, targets);
  for (let round = 0; round < 2; round += 1) {
    t.is(String(await exchange(await connect(t, { port }), 'x')), 'first');
    t.is(await endingOf(dial(t, { port })), 'ECONNRESET');
    t.like(await relay.connection(2 * round + 1), { target: targets[1], error: { code: 'ECONNREFUSED' } });
  }
  t.is(await relay.stop(), 0);
  t.like(JSON.parse(relay.lines.at(-1) ?? ''), { event: 'closed', connections: 4, failed: 2 });
});
