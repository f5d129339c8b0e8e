// Failures of the calls that a transfer begins with: duplicating a descriptor, resizing a pipe, accepting a connection.
// They are injected, because a full file table of the whole system would stop every other program.
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { fileURLToPath } from 'node:url';

import { Relay } from '../helpers/cli/cli.js';
import { connect, echo, exchange } from '../helpers/local-peers.js';
import { coreTestWithTool, testWithTool } from '../helpers/tools.js';
import { Peer } from '../helpers/peer.js';
import { RelayProcess } from '../helpers/processes/relay-process.js';
import { until, within } from '../helpers/wait.js';

const MiB = 1 << 20;
const REFUSE = fileURLToPath(new URL('../helpers/processes/refuse.py', import.meta.url));

for (const code of ['EMFILE', 'ENFILE', 'ENOMEM']) {
  coreTestWithTool(
    'python3',
    `a relay that gets ${code} for a duplicate fails there, resets both peers and leaves nothing`,
    async (t) => {
      const peer = Peer.start(t);
      const command = ['python3', REFUSE, `F_DUPFD_CLOEXEC=${code}`, '--'];
      const relay = await RelayProcess.start(t, peer, command);
      let open = 0;
      for (let round = 0; round < 20; round += 1) {
        const { client, origin } = await relay.connect();
        const ends = await Promise.all([peer.readToEnd(client), peer.readToEnd(origin)]);
        t.deepEqual(
          ends.map(({ bytes, end }) => [bytes, end]),
          [
            [0, 'reset'],
            [0, 'reset'],
          ],
        );
        // The threads of the core open a few descriptors once.
        if (round === 4) open = await settledDescriptors(relay, 5);
      }
      const endings = await relay.endings();
      t.is(endings.length, 20);
      for (const ending of endings) t.like(ending, { total: 0, code, syscall: 'fcntl', side: 'a' });
      t.true((await settledDescriptors(relay, 20)) <= open);
      t.like(await relay.stats(), { active: 0, pipes: { leased: 0 } });
      await relay.end();
    },
  );
}

/** The number of open descriptors once `ended` relays have ended and their sockets are closed. */
async function settledDescriptors(relay: RelayProcess, ended: number): Promise<number> {
  await until(
    'all relays have ended',
    () => relay.endings(),
    ({ length }) => length === ended,
  );
  let last = -1;
  return until(
    'nothing is closed any more',
    async () => [last, (last = (await relay.stats(), relay.descriptors()))] as const,
    ([before, now]) => before === now,
  ).then(([, now]) => now);
}

for (const code of ['EPERM', 'ENOMEM', 'EBUSY', 'EINVAL']) {
  coreTestWithTool(
    'python3',
    `a relay that gets ${code} at F_SETPIPE_SZ keeps the pipe as it is, and all bytes arrive`,
    async (t) => {
      const peer = Peer.start(t);
      const command = ['python3', REFUSE, `F_SETPIPE_SZ=${code}`, '--'];
      const relay = await RelayProcess.start(t, peer, command, { relay: { pipeSize: MiB } });
      const { client, origin } = await relay.connect();
      const bytes = 32 * MiB + 1;
      const reading = peer.readToEnd(origin);
      const sent = await peer.write(client, bytes, 1);
      await peer.shutdown(client);
      t.deepEqual(await within(60_000, 'all bytes arrive', reading), { ...sent, end: 'eof' });
      await peer.shutdown(origin);
      const endings = await until(
        'the relay has ended',
        () => relay.endings(),
        ({ length }) => length === 1,
      );
      t.like(endings, [{ tx: bytes, rx: 0, code: null }]);
      const { zeroCopy, active, pipes } = await relay.stats();
      t.log(`${zeroCopy} of ${bytes} bytes spliced`);
      t.true(zeroCopy > bytes / 2);
      t.deepEqual([active, pipes.leased], [0, 0]);
      await relay.end();
    },
  );
}

/** Sends a word on an open connection and returns the answer. */
async function echoed(socket: Socket, word: string): Promise<string> {
  socket.write(word);
  const [data] = (await within(30_000, 'an answer', once(socket, 'data'))) as [Buffer];
  return data.toString();
}

for (const code of ['EMFILE', 'ENFILE', 'ENOBUFS', 'ENOMEM', 'EPERM', 'ECONNABORTED', 'EINTR']) {
  testWithTool(
    'strace',
    `${code} at accept costs at most that connection: the others go on, and the next one is accepted`,
    async (t) => {
      // Every second accept fails. With -D the tracer is not the parent, so signals reach the relay.
      const fault = `inject=accept4:error=${code}:when=2+2`;
      const under = ['strace', '-D', '-f', '-qq', '-o', '/dev/null', '-e', 'trace=accept4', '-e', fault];
      const { relay, port } = await Relay.onPort(t, await echo(t), [], { under });
      const first = await connect(t, { port });
      t.is(await echoed(first, 'one'), 'one');
      let answered = 0;
      for (let round = 0; round < 10; round += 1) {
        const word = `word ${round}`;
        const client = await connect(t, { port });
        client.on('error', () => undefined);
        const answer = await Promise.race([
          exchange(client, word).catch(String),
          new Promise((resolve) => client.once('close', () => resolve('closed'))),
        ]);
        if (String(answer) === word) answered += 1;
        client.destroy();
      }
      t.log(`${answered} of 10 answered; ${relay.stderr.split('\n').length - 1} lines of errors`);
      t.true(answered >= 5, `${answered} of 10`);
      t.is(await echoed(first, 'two'), 'two');
      first.destroy();
      for (const line of relay.stderr.split('\n').filter(Boolean))
        t.regex(line, new RegExp(`^fdsplice: cannot accept: .*${code}`));
      t.is(await relay.stop(), 0);
    },
  );
}
