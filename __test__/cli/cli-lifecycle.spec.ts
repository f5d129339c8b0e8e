// How `fdsplice relay` starts and stops, and how it survives failures around it.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { rename, stat, writeFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';

import test, { type ExecutionContext } from 'ava';

import { Relay, runCli } from '../helpers/cli/cli.js';
import { connect, dial, directory, echo, endingOf, exchange, serve, silent } from '../helpers/local-peers.js';
import { tcpSockets } from '../helpers/tcp-table.js';
import { until, within } from '../helpers/wait.js';

const MiB = 1 << 20;

/** A relay with an established connection. */
async function busyRelay(t: ExecutionContext, target: string, options: string[] = []) {
  const { relay, port } = await Relay.onPort(t, target, options);
  const client = await connect(t, { port });
  client.write('x');
  return { relay, port, client };
}

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  test(`${signal} lets a transfer finish, accepts no new connection, and exits with 0`, async (t) => {
    const { server, port: target } = await serve(t, (socket) => socket.resume());
    const connected = once(server, 'connection') as Promise<[Socket]>;
    const { relay, port, client } = await busyRelay(t, `127.0.0.1:${target}`);
    const received = buffer(client);
    const [origin] = await connected;
    origin.write(Buffer.alloc(MiB));

    relay.child.kill(signal);
    await closed(port);
    await t.throwsAsync(connect(t, { port }), { code: 'ECONNREFUSED' });
    origin.end(Buffer.alloc(4 * MiB));
    client.end();
    t.is((await received).length, 5 * MiB);
    t.is(await relay.ended(), 0);
    t.like(await relay.connection(), { tx: 1, rx: 5 * MiB, error: null });
    t.like(JSON.parse(relay.lines.at(-1) ?? ''), { event: 'closed', connections: 1, failed: 0, rx: 5 * MiB });
    t.is(relay.stderr, '');
  });
}

test('a second signal aborts all connections at once', async (t) => {
  const { relay, port, client } = await busyRelay(t, await silent(t), ['--grace', '10m']);
  const ending = endingOf(client);
  relay.child.kill('SIGTERM');
  await closed(port);
  t.is(relay.child.exitCode, null);
  relay.child.kill('SIGINT');
  t.is(await within(20_000, 'the relay ends', relay.ended()), 1);
  t.is(await ending, 'ECONNRESET');
  t.like(await relay.connection(), { tx: 1, rx: 0, error: { code: 'ABORT_ERR' } });
  t.is(relay.stderr, 'fdsplice: stopped at once, connections cut off: 1\n');
});

test('connections that outlive the grace period are aborted', async (t) => {
  const { relay, client } = await busyRelay(t, await silent(t), ['--grace', '300ms']);
  const ending = endingOf(client);
  t.is(await within(20_000, 'the relay ends', relay.stop()), 1);
  t.is(await ending, 'ECONNRESET');
  t.like(await relay.connection(), { tx: 1, rx: 0, error: { code: 'ABORT_ERR' } });
  t.like(JSON.parse(relay.lines.at(-1) ?? ''), { event: 'closed', connections: 1, failed: 1 });
  t.is(relay.stderr, 'fdsplice: the grace period is over, connections cut off: 1\n');
});

test('a port in use gives one line and exit status 1', async (t) => {
  const { port } = await serve(t, () => undefined);
  const { status, stdout, stderr } = await runCli('relay', `127.0.0.1:${port}`, '127.0.0.1:80');
  t.is(status, 1);
  t.is(stdout, '');
  t.regex(stderr, new RegExp(`^fdsplice: cannot listen: .*EADDRINUSE.*127\\.0\\.0\\.1:${port}\n$`));
});

test('a Unix socket file without a listener is replaced', async (t) => {
  const folder = await directory(t);
  const path = join(folder, 'socket');
  const { server } = await serve(t, () => undefined, { path: join(folder, 'first') });
  // Under its new name the file outlives its server, as after the kill of a process.
  await rename(join(folder, 'first'), path);
  server.close();
  await once(server, 'close');
  t.true((await stat(path)).isSocket());

  const relay = new Relay(t, ['--json', `unix:${path}`, await echo(t)]);
  await relay.event('listening');
  t.is(String(await exchange(await connect(t, { path }), 'hello')), 'hello');
  t.is(await relay.stop(), 0);
  t.false(existsSync(path));
});

test('a Unix socket with a listener is not replaced', async (t) => {
  const path = join(await directory(t), 'socket');
  await echo(t, { path });
  const { status, stderr } = await runCli('relay', `unix:${path}`, '127.0.0.1:80');
  t.is(status, 1);
  t.regex(stderr, /^fdsplice: cannot listen: [^\n]*EADDRINUSE[^\n]*\n$/);
  t.is(String(await exchange(await connect(t, { path }), 'hello')), 'hello');
});

test('a file that is not a socket is not replaced', async (t) => {
  const path = join(await directory(t), 'file');
  await writeFile(path, 'precious');
  const { status, stderr } = await runCli('relay', `unix:${path}`, '127.0.0.1:80');
  t.is(status, 1);
  t.regex(stderr, /^fdsplice: cannot listen: [^\n]*EADDRINUSE[^\n]*\n$/);
  t.is((await stat(path)).size, 8);
});

test('a connect to a target that does not answer fails after --connect-timeout', async (t) => {
  const target = await unanswering(t);
  const { relay, port } = await Relay.onPort(t, target, ['--connect-timeout', '500ms']);
  t.is(await endingOf(dial(t, { port })), 'ECONNRESET');
  const { error } = await relay.connection();
  t.deepEqual(error, {
    code: 'ETIMEDOUT',
    side: 'b',
    message: 'connect failed: ETIMEDOUT on side b, no answer within 500 ms',
  });
  t.is(await relay.stop(), 0);
});

test('a client that hangs up during the connect to the target counts as one failed connection', async (t) => {
  const { relay, port } = await Relay.onPort(t, await unanswering(t), ['--connect-timeout', '1s']);
  const client = await connect(t, { port });
  client.resetAndDestroy();
  t.not((await relay.connection()).error, null);
  t.is(await endingOf(dial(t, { port })), 'ECONNRESET');
  t.is((await relay.connection(1)).error?.code, 'ETIMEDOUT');
  t.is(await relay.stop(), 0);
});

test('a reader of stdout that exits does not stop the relay', async (t) => {
  const { relay, port } = await Relay.onPort(t, await echo(t));
  const client = await connect(t, { port });
  client.write('x');
  await once(client, 'data');
  relay.child.stdout?.destroy();
  // The first of these lines fails on the closed pipe while `client` is still relayed.
  for (const word of ['one', 'two', 'three']) {
    t.is(String(await exchange(await connect(t, { port }), word)), word);
  }
  t.is(String(await exchange(client, 'four')), 'four');
  t.is(await relay.stop(), 0);
  t.is(relay.stderr, '');
});

test('a lack of descriptors costs connections, but does not stop the relay', async (t) => {
  const { relay, port } = await Relay.onPort(t, await echo(t), [], { descriptors: 80 });
  const clients = Array.from({ length: 120 }, () => dial(t, { port }));
  // If accept itself fails, libuv closes the connection silently.
  await Promise.any(clients.map((client) => endingOf(client)));
  for (const client of clients) {
    client.destroy();
  }
  const answer = await until(
    'a connection works again',
    () => exchange(dial(t, { port }), 'hello').catch(String),
    (got) => String(got) === 'hello',
  );
  t.is(String(answer), 'hello');
  t.is(await relay.stop(), 0);
});

/** Waits until the port has no listener. A connect would not do, because the relay might still accept it. */
async function closed(port: number): Promise<void> {
  await until(
    `port ${port} has no listener`,
    async () => (await tcpSockets()).filter((row) => row.state === 'listening' && row.localPort === port),
    (listeners) => listeners.length === 0,
  );
}

/** An address that neither accepts nor refuses a connection: the full accept queue of a stopped server. */
async function unanswering(t: ExecutionContext): Promise<string> {
  const script = `
    const server = require('node:net').createServer();
    server.listen({ host: '127.0.0.1', port: 0, backlog: 1 }, () => console.log(server.address().port));
  `;
  const child = spawn(process.execPath, ['--eval', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  const [line] = (await once(child.stdout.setEncoding('utf8'), 'data')) as [string];
  const port = Number(line);
  child.kill('SIGSTOP');
  // An accept queue of length one holds two connections.
  await Promise.all([connect(t, { port, host: '127.0.0.1' }), connect(t, { port, host: '127.0.0.1' })]);
  return `127.0.0.1:${port}`;
}
