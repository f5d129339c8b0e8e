// Exhausted limits of the system: descriptors and the quota of pipe pages. Transfers slow down or fail cleanly.
import { once } from 'node:events';
import net from 'node:net';

import test, { type ExecutionContext } from 'ava';

import { coreTestWithTool, testWithTool } from '../helpers/tools.js';
import { ended, nodeArguments, started } from '../helpers/copy-child.js';
import { Peer } from '../helpers/peer.js';
import { AS_NOBODY, holdPipes } from '../helpers/quota.js';
import { RelayProcess } from '../helpers/processes/relay-process.js';
import { until, within } from '../helpers/wait.js';

const MiB = 1 << 20;
const FULL = process.env['FDSPLICE_FULL'] === '1';

testWithTool('prlimit', 'bulk arrives with the quota of pipe pages used up by another process', async (t) => {
  await holdPipes(t, 1100);
  const peer = Peer.start(t);
  const relay = await RelayProcess.start(t, peer, AS_NOBODY);
  const bytes = 8 * MiB + 1;
  const pairs = [];
  for (let index = 0; index < 24; index += 1) pairs.push(await relay.connect());
  await Promise.all(
    pairs.map(async ({ client, origin }, index) => {
      const reading = peer.readToEnd(origin);
      const back = peer.readToEnd(client);
      const sent = await Promise.all([
        peer.write(client, bytes, index).then((digest) => peer.shutdown(client).then(() => digest)),
        peer.write(origin, MiB, index).then((digest) => peer.shutdown(origin).then(() => digest)),
      ]);
      t.deepEqual(
        [await reading, await back],
        sent.map((digest) => ({ ...digest, end: 'eof' })),
      );
    }),
  );
  const stats = await until(
    'all relays have ended',
    () => relay.stats(),
    ({ active }) => active === 0,
  );
  // The core uses buffers instead, because a pipe of two pages costs more than a buffer.
  t.like(stats, { tx: 24 * bytes, rx: 24 * MiB, failed: 0, zeroCopy: 0, pipes: { leased: 0, created: 0 } });
  t.log(`${stats.zeroCopy} of ${stats.total} bytes spliced, ${stats.pipes.created} pipes made`);
  await relay.end();
});

testWithTool('prlimit', 'a pipe smaller than the pipeSize is used again', async (t) => {
  await holdPipes(t, 1100);
  const peer = Peer.start(t);
  const relay = await RelayProcess.start(t, peer, AS_NOBODY, { relay: { pipeSize: MiB } });
  for (let round = 0; round < 3; round += 1) {
    const { client, origin } = await relay.connect();
    const sending = peer.write(client, 8 * MiB, 1).then((digest) => peer.shutdown(client).then(() => digest));
    t.like(await peer.readToEnd(origin), { end: 'eof', bytes: 8 * MiB, sha256: (await sending).sha256 });
    await peer.shutdown(origin);
  }
  const { pipes, zeroCopy } = await relay.stats();
  t.log(`${pipes.created} pipes made, ${zeroCopy} bytes spliced`);
  t.true(pipes.created <= 4, `${pipes.created} pipes made`);
  await relay.end();
});

/** The start of a program: `meet` makes sockets, `takeAll(spare)` leaves only `spare` free descriptors. */
const WITHOUT_DESCRIPTORS = `
  import { once } from 'node:events';
  import { closeSync, openSync, readdirSync } from 'node:fs';
  import net from 'node:net';
  import { copy, relay, sendFile, stats } from 'fdsplice';
  const server = net.createServer({ pauseOnConnect: true, allowHalfOpen: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const meet = async () => {
    const outer = net.connect({ port: server.address().port, host: '127.0.0.1', allowHalfOpen: true });
    const [[inner]] = await Promise.all([once(server, 'connection'), once(outer, 'connect')]);
    return [outer.on('error', () => {}), inner];
  };
  const nothing = openSync('/dev/null', 'r+');
  await copy(nothing, nothing);
  await new Promise((resolve) => setTimeout(resolve, 50));
  const taken = [];
  const takeAll = (spare) => {
    try { for (;;) taken.push(openSync('/dev/null')); } catch (error) { if (error.code !== 'EMFILE') throw error; }
    for (const fd of taken.splice(0, spare)) closeSync(fd);
  };
  const freeAll = () => { for (const fd of taken.splice(0)) closeSync(fd); };
  const print = (...values) => console.log(JSON.stringify(values));
`;

coreTestWithTool(
  'prlimit',
  'a transfer fails at the end whose descriptor cannot be duplicated, and the next one works',
  async (t) => {
    const body = `${WITHOUT_DESCRIPTORS}
    for (const spare of [0, 1]) {
      const [client, a] = await meet();
      const [origin, b] = await meet();
      takeAll(spare);
      const { error, total } = await relay(a, b, { reject: false });
      const left = stats();
      freeAll();
      print('relay', spare, error.code, error.syscall, error.side, total, a.destroyed && b.destroyed, left.active);
      client.destroy(); origin.destroy();
    }
    // A Pipe handle of Node may be a socket or a pipe. The core needs a duplicate to find out.
    const pipes = net.createServer({ pauseOnConnect: true }).listen('\\0fdsplice-' + process.pid);
    const unix = async () => {
      const outer = net.connect('\\0fdsplice-' + process.pid).on('error', () => {});
      return (await once(pipes, 'connection'))[0].on('close', () => outer.destroy());
    };
    const [first, second] = [await unix(), await unix()];
    takeAll(0);
    const failed = await relay(first, second, { reject: false });
    freeAll();
    print('unix', failed.error.code, failed.error.syscall, failed.error.side, first.destroyed && second.destroyed);
    pipes.close();
    const [client, a] = await meet();
    const [origin, b] = await meet();
    for (const spare of [0, 1]) {
      takeAll(spare);
      const { error, total } = await copy(a, b, { reject: false, length: 5 });
      freeAll();
      print('copy', spare, error.code, error.syscall, error.side, total, a.destroyed || b.destroyed);
    }
    takeAll(0);
    const numbers = await relay(a._handle.fd, b._handle.fd).catch((error) => error);
    const file = await sendFile('/proc/self/exe', b, { reject: false });
    freeAll();
    print('numbers', numbers.code, file.error.code, file.error.side);
    const open = readdirSync('/proc/self/fd').length;
    client.end('hello'); origin.end();
    const { tx } = await relay(a, b);
    print('afterwards', tx);
    origin.destroy(); client.destroy();
    await new Promise((resolve) => setTimeout(resolve, 50));
    print('open', open - readdirSync('/proc/self/fd').length);
    process.exit(0);
  `;
    const child = started(
      t,
      'prlimit',
      ['--nofile=96', process.execPath, ...nodeArguments(body)],
      ['ignore', 'pipe', 'pipe'],
    );
    const { code, stdout, stderr } = await ended(child, 30_000);
    t.deepEqual([code, stderr], [0, '']);
    const lines = stdout
      .toString()
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as unknown);
    t.deepEqual(lines, [
      ['relay', 0, 'EMFILE', 'fcntl', 'a', 0, true, 0],
      ['relay', 1, 'EMFILE', 'fcntl', 'b', 0, true, 0],
      ['unix', 'EMFILE', 'fcntl', 'a', true],
      ['copy', 0, 'EMFILE', 'fcntl', 'source', 0, false],
      ['copy', 1, 'EMFILE', 'fcntl', 'destination', 0, false],
      ['numbers', 'EMFILE', 'EMFILE', 'source'],
      ['afterwards', 5],
      // Both ends of both connections.
      ['open', 4],
    ]);
  },
);

/** Opens relays until the process has no descriptor left, and checks that every one of them still works. */
async function upToTheLimit(t: ExecutionContext, limit: number): Promise<void> {
  const origins: net.Socket[] = [];
  const server = net.createServer((socket) => {
    origins.push(socket.on('error', () => undefined));
    socket.on('data', (data) => socket.write(data));
  });
  server.listen({ port: 0, host: '127.0.0.1', backlog: 1024 });
  await once(server, 'listening');
  const clients: net.Socket[] = [];
  t.teardown(() => {
    server.close();
    for (const socket of [...clients, ...origins]) socket.destroy();
  });
  const peer = Peer.start(t);
  const { port } = server.address() as net.AddressInfo;
  const relay = await RelayProcess.start(t, peer, ['prlimit', `--nofile=${limit}`], { origin: port });
  const base = relay.descriptors();

  /** Sends a message and returns the answer, or `closed` if the connection ends. */
  const exchange = async (client: net.Socket, text: string): Promise<string> => {
    const answer = Promise.race([
      new Promise<string>((resolve) => client.once('data', (data) => resolve(String(data)))),
      new Promise<string>((resolve) => client.once('close', () => resolve('closed'))),
    ]);
    if (client.destroyed) return 'closed';
    client.write(text);
    return within(30_000, 'an answer or an end', answer);
  };
  const join = async (): Promise<string> => {
    const client = net.connect({ port: relay.port, host: '127.0.0.1' }).on('error', () => undefined);
    const answer = await exchange(client, 'hello');
    if (answer === 'hello') clients.push(client);
    return answer;
  };

  while ((await join()) === 'hello') if (clients.length > limit) throw new Error('there is no limit');
  const expected = Math.floor((limit - base) / 4);
  t.log(`${clients.length} relays within ${limit} descriptors, ${base} of them there before`);
  // The threads of the core open a few descriptors once.
  t.true(clients.length >= expected - 8 && clients.length <= expected, `${clients.length} of ${expected}`);
  for (let more = 0; more < 10; more += 1) t.is(await join(), 'closed');
  t.is((await relay.stats()).active, clients.length);
  for (const [index, client] of clients.entries())
    t.is(await exchange(client, `still ${index}`), `still ${index}`);
  clients.pop()?.destroy();
  const again = await until('there is room for a relay again', join, (answer) => answer === 'hello');
  t.is(again, 'hello');
  for (const client of clients) client.destroy();
  await until(
    'all descriptors are free',
    () => relay.descriptors(),
    (open) => open <= base + 16,
  );
  const { active, pipes } = await relay.stats();
  t.deepEqual([active, pipes.leased], [0, 0]);
  await relay.end();
}

coreTestWithTool(
  'prlimit',
  'a process with 1,024 descriptors runs as many idle relays as they allow, and rejects one more',
  (t) => upToTheLimit(t, 1024),
);

if (FULL) {
  coreTestWithTool(
    'prlimit',
    'a process with 16,384 descriptors runs as many idle relays as they allow',
    (t) => {
      t.timeout(280_000);
      return upToTheLimit(t, 16_384);
    },
  );
} else {
  test.skip('a process with 16,384 descriptors runs as many idle relays as they allow (npm run test:full)', () =>
    undefined);
}
