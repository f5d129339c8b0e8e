// `fdsplice relay` with clients and targets that end their input and then close: their connections are no failed ones.
import test, { type ExecutionContext } from 'ava';

import { portOf, Relay } from '../helpers/cli/cli.js';
import { Peer } from '../helpers/peer.js';

/** Makes a connection whose `leaver` ends its input and closes before it has the last bytes of the other. */
async function leave(t: ExecutionContext, leaver: 'client' | 'target', options: string[]): Promise<Relay> {
  const peer = Peer.start(t);
  const { listener, port } = await peer.listen({ port: 0 });
  const relay = new Relay(t, [...options, '127.0.0.1:0', `127.0.0.1:${port}`]);
  const listening = await relay.line(/listening/);
  const [{ conn: client }, { conn: target }] = await Promise.all([
    peer.connect({ port: portOf(/127\.0\.0\.1:\d+/.exec(listening)?.[0] ?? '') }),
    peer.accept(listener),
  ]);
  const [first, second] = leaver === 'client' ? [client, target] : [target, client];
  await peer.writeText(first, 'hello');
  await peer.shutdown(first);
  t.like(await peer.readToEnd(second), { bytes: 5, end: 'eof' });
  await peer.close(first);
  // The first bytes may be accepted before the relay knows that nobody takes them.
  await peer.write(second, 1 << 30, 1).catch(() => {});
  return relay;
}

for (const [leaver, side] of [
  ['client', 'a'],
  ['target', 'b'],
] as const) {
  test(`a ${leaver} that closes after its end is printed as such, and not counted as failed`, async (t) => {
    const relay = await leave(t, leaver, []);
    t.regex(await relay.line(/->/), new RegExp(`  \\d+ ms  closed by the ${leaver}$`));
    t.is(await relay.stop(), 0);
    t.regex(relay.lines.at(-1) ?? '', /^closed {2}connections 1 {2}failed 0 {2}refused 0 /);
  });

  test(`with --json a ${leaver} that closes after its end has an error with afterEnd`, async (t) => {
    const relay = await leave(t, leaver, ['--json']);
    const { error } = await relay.connection();
    t.like(error, { side, afterEnd: true });
    t.regex(error?.code ?? '', /^(ECONNRESET|EPIPE)$/);
    t.is(await relay.stop(), 0);
    t.like(JSON.parse(relay.lines.at(-1) ?? ''), { event: 'closed', connections: 1, failed: 0 });
  });
}

test('with --json a reset without an end before it has an error without afterEnd', async (t) => {
  const peer = Peer.start(t);
  const { listener, port } = await peer.listen({ port: 0 });
  const { relay, port: front } = await Relay.onPort(t, `127.0.0.1:${port}`);
  const [{ conn: client }] = await Promise.all([peer.connect({ port: front }), peer.accept(listener)]);
  await peer.reset(client);
  const { error } = await relay.connection();
  t.like(error, { code: 'ECONNRESET', side: 'a' });
  t.false(error !== null && 'afterEnd' in error);
  t.is(await relay.stop(), 0);
  t.like(JSON.parse(relay.lines.at(-1) ?? ''), { event: 'closed', connections: 1, failed: 1 });
});
