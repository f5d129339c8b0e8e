// 'beforeExit' of processes that transfer: emitted once nothing is pending, and not before.
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

import test, { type ExecutionContext } from 'ava';

import { ended, nodeArguments, started } from '../helpers/copy-child.js';
import { sample } from '../helpers/copy-files.js';
import { coreTest } from '../helpers/engine.js';
import { Peer } from '../helpers/peer.js';
import { within } from '../helpers/wait.js';

/** The start of every program. Its sockets are unreferenced, so only the transfer keeps the process alive. */
const BEGIN = `
  import { once } from 'node:events';
  import { writeSync } from 'node:fs';
  import net from 'node:net';
  import { copy, relay, sendFile } from 'fdsplice';
  const [port, other, path] = process.argv.slice(1);
  const connect = async (port) => {
    const socket = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    await once(socket, 'connect');
    return socket.unref();
  };
  const ports = [port, other];
  const print = (...words) => writeSync(2, words.join(' ') + '\\n');
`;

interface Program {
  child: ChildProcess;
  lines: string[];
  printed: (line: string) => Promise<void>;
}

/** Starts a program that prints its events, one a line. */
function program(t: ExecutionContext, body: string, ...args: (string | number)[]): Program {
  const command = [...nodeArguments(BEGIN + body), ...args.map(String)];
  const child = started(t, process.execPath, command, ['pipe', 'ignore', 'pipe']);
  const lines: string[] = [];
  const { stderr } = child;
  if (stderr === null) throw new Error('a child without stderr');
  const reader = createInterface({ input: stderr });
  reader.on('line', (line) => lines.push(line));
  const printed = async (line: string) => {
    while (!lines.includes(line))
      await within(30_000, `the program prints ${line}: ${lines.join()}`, once(reader, 'line'));
  };
  return { child, lines, printed };
}

/** A peer with two listeners, one for each socket of a relay. */
async function meeting(t: ExecutionContext) {
  const peer = Peer.start(t);
  const [one, two] = [await peer.listen({ port: 0 }), await peer.listen({ port: 0 })];
  const acceptOne = async () => (await within(30_000, 'socket a connects', peer.accept(one.listener))).conn;
  const accept = async () => ({
    client: await acceptOne(),
    origin: (await within(30_000, 'socket b connects', peer.accept(two.listener))).conn,
  });
  return { peer, ports: [one.port, two.port] as const, accept, acceptOne };
}

for (const [name, start] of [
  ['relay', 'relay(a, b)'],
  ['copy', 'copy(a, b)'],
  ['relay of streams', 'relay(new Proxy(a, {}), b)'],
  ['relay that is idle under a timeout', 'relay(a, b, { idleTimeout: 600_000, onProgress() {} })'],
] as const) {
  test(`beforeExit waits for a pending ${name} and is emitted once after its end`, async (t) => {
    const { peer, ports, accept } = await meeting(t);
    const body = `
      process.on('beforeExit', (code) => print('beforeExit', code)).on('exit', () => print('exit'));
      const [a, b] = [await connect(ports[0]), await connect(ports[1])];
      const transfer = ${start};
      print('begun');
      transfer.then(({ tx }) => { print('ended', tx); a.destroy(); b.destroy(); });
    `;
    const { child, lines, printed } = program(t, body, ...ports);
    const out = ended(child);
    const { client, origin } = await accept();
    await printed('begun');
    await sleep(500);
    t.deepEqual(lines, ['begun']);
    await peer.writeText(client, 'hello');
    t.is(await peer.readText(origin, 5), 'hello');
    await Promise.all([peer.shutdown(client), peer.shutdown(origin)]);
    const { code } = await out;
    t.is(code, 0);
    t.deepEqual(lines, ['begun', 'ended 5', 'beforeExit 0', 'exit']);
  });
}

coreTest('a process ends although it has idle pipes', async (t) => {
  const { peer, ports, accept } = await meeting(t);
  const body = `
    const { stats } = await import('fdsplice');
    // Pipes are kept for ten seconds, so there are none if the process waits for that.
    const idle = () => (stats().pipes.idle > 0 ? 'idle pipes' : 'no pipes');
    process.on('beforeExit', () => print('beforeExit', idle())).on('exit', () => print('exit', idle()));
    const [a, b] = [await connect(ports[0]), await connect(ports[1])];
    const { zeroCopy } = await copy(a, b);
    print(zeroCopy > 0);
    a.destroy();
    b.destroy();
  `;
  const { child, lines } = program(t, body, ...ports);
  const out = ended(child);
  const { client, origin } = await accept();
  const size = 16 * 1024 * 1024;
  await Promise.all([peer.write(client, size, 1).then(() => peer.shutdown(client)), peer.read(origin, size)]);
  t.is((await out).code, 0);
  t.deepEqual(lines, ['true', 'beforeExit idle pipes', 'exit idle pipes']);
});

test('beforeExit is emitted once after a failed and an aborted transfer', async (t) => {
  const { ports, accept } = await meeting(t);
  const body = `
    process.on('beforeExit', () => print('beforeExit'));
    const [a, b] = [await connect(ports[0]), await connect(ports[1])];
    const transfer = relay(a, b, { reject: false });
    const refused = relay(net.connect(1, '127.0.0.1'), net.connect(1, '127.0.0.1'), { reject: false });
    print((await refused).error.code);
    transfer.abort();
    print((await transfer).error.code);
  `;
  const { child, lines } = program(t, body, ...ports);
  const out = ended(child);
  await accept();
  t.is((await out).code, 0);
  t.deepEqual(lines, ['ECONNREFUSED', 'ABORT_ERR', 'beforeExit']);
});

test('a transfer started from a beforeExit listener is completed, and beforeExit is emitted again after it', async (t) => {
  const { peer, ports, accept, acceptOne } = await meeting(t);
  const body = `
    let count = 0;
    const begin = [
      // Begun while the sockets are still connecting.
      () => relay(net.connect(ports[0], '127.0.0.1'), net.connect(ports[1], '127.0.0.1')),
      () => sendFile(path, net.connect({ port: ports[0], host: '127.0.0.1' }), { endDestination: true }),
      async () => copy(await connect(ports[0]), await connect(ports[1]), { endDestination: true }),
    ];
    process.on('beforeExit', () => {
      print('beforeExit');
      const transfer = begin[count++]?.();
      transfer?.then(({ tx }) => print('ended', tx), (error) => print(error.message));
    });
  `;
  const { path, bytes } = sample(t, 300_000);
  const { child, lines, printed } = program(t, body, ...ports, path);
  const out = ended(child);

  const first = await accept();
  await sleep(300);
  t.deepEqual(lines, ['beforeExit'], 'the relay holds the process');
  await peer.writeText(first.client, 'hello');
  t.is(await peer.readText(first.origin, 5), 'hello');
  await Promise.all([peer.shutdown(first.client), peer.shutdown(first.origin)]);
  await printed('ended 5');

  const reader = await acceptOne();
  t.is((await peer.readToEnd(reader)).bytes, bytes.length);
  await peer.shutdown(reader);
  await printed('ended 300000');

  const last = await accept();
  await peer.writeText(last.client, 'bye');
  t.is(await peer.readText(last.origin, 3), 'bye');
  await Promise.all([peer.shutdown(last.client), peer.shutdown(last.origin)]);
  t.is((await out).code, 0);
  t.deepEqual(lines, [
    'beforeExit',
    'ended 5',
    'beforeExit',
    'ended 300000',
    'beforeExit',
    'ended 3',
    'beforeExit',
  ]);
});
