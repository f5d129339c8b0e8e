// fdsplice/proxy-chain: with the adapter, tunnels have the bytes, statistics, events and errors that they have without it.
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type http from 'node:http';
import net, { type Socket } from 'node:net';
import { text } from 'node:stream/consumers';

import test, { type ExecutionContext } from 'ava';
import { RateLimiter, relayOnPipe, type TrafficResult } from 'fdsplice';
import { type HttpServerOptions, Server } from 'proxy-chain';

import { relayTunnels } from 'fdsplice/proxy-chain';
import { engine } from '../helpers/engine.js';
import { connect, echo, nobody, serve } from '../helpers/local-peers.js';
import { relaysOf } from '../helpers/relays.js';
import { socksProxy } from '../helpers/socks-proxy.js';
import { until, within } from '../helpers/wait.js';

const MiB = 1 << 20;
const AT: HttpServerOptions = { port: 0, host: '127.0.0.1' };

interface Started {
  server: Server;
  port: number;
  /** The statistics of closed connections, and what the server has logged of errors on sockets. */
  closed: unknown[];
  errors: string[];
}

async function start(t: ExecutionContext, options: HttpServerOptions): Promise<Started> {
  const server = new Server(options);
  const closed: unknown[] = [];
  const errors: string[] = [];
  server.on('connectionClosed', ({ stats }: { stats: unknown }) => closed.push(stats));
  Object.assign(server, {
    log: (_id: unknown, line: string) => {
      const [, error] = /(\w+ \w+ Socket Error: .*)/.exec(line) ?? [];
      if (error !== undefined) errors.push(error);
    },
  });
  await server.listen();
  t.teardown(() => server.close(true));
  return { server, port: server.port, closed, errors };
}

/** Ways from the server to the target. */
const routes: Record<string, (t: ExecutionContext) => Promise<HttpServerOptions>> = {
  direct: () => Promise.resolve(AT),
  'through an HTTP proxy': async (t) => {
    const { port } = await start(t, AT);
    return { ...AT, prepareRequestFunction: () => ({ upstreamProxyUrl: `http://127.0.0.1:${port}` }) };
  },
  'through a SOCKS proxy': async (t) => {
    const port = await socksProxy(t);
    return {
      ...AT,
      prepareRequestFunction: () => Promise.resolve({ upstreamProxyUrl: `socks5://127.0.0.1:${port}` }),
    };
  },
};

interface Tunnel {
  client: Socket;
  /** What has arrived after the answer to CONNECT. */
  received: () => Buffer;
  /** `end` or the code of an error, once the connection has ended. */
  ending: () => string;
}

/** Sends CONNECT, with `early` in the same segment, and waits for the answer. */
async function open(t: ExecutionContext, port: number, target: string, early = ''): Promise<Tunnel> {
  const client = await connect(t, { port });
  const chunks: Buffer[] = [];
  let ending = '';
  client
    .on('data', (chunk: Buffer) => chunks.push(chunk))
    .on('error', ({ code = '' }: NodeJS.ErrnoException) => (ending ||= code))
    .on('end', () => {
      ending ||= 'end';
      client.end();
    });
  client.write(`CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n\r\n${early}`);
  const at = await until(
    'the tunnel is open',
    () => Buffer.concat(chunks).indexOf('\r\n\r\n'),
    (found) => found >= 0,
  );
  return { client, received: () => Buffer.concat(chunks).subarray(at + 4), ending: () => ending };
}

/** What is noticed of one tunnel, with and without the adapter. `talk` ends it. */
async function both(
  t: ExecutionContext,
  options: HttpServerOptions,
  target: string,
  talk: (tunnel: Tunnel) => Promise<void> | void,
  early?: string,
) {
  const through = async (adapted: HttpServerOptions) => {
    const { port, closed, errors, server } = await start(t, adapted);
    const tunnel = await open(t, port, target, early);
    await talk(tunnel);
    await until('the connection is closed', () => closed.length, Boolean);
    await until('the client has ended', () => tunnel.ending() !== '' || tunnel.client.destroyed, Boolean);
    t.deepEqual(server.getConnectionIds(), []);
    return { closed, errors, received: tunnel.received().toString('latin1'), ending: tunnel.ending() };
  };
  const without = await relaysOf(() => through(options));
  t.is(without.relays.length, 0);
  const relayed = await relaysOf(() => through(relayTunnels(options)));
  t.is(relayed.relays.length, 1);
  return { without: without.outcome, seen: relayed.outcome, relay: relayed.relays[0] };
}

for (const [route, optionsOf] of Object.entries(routes)) {
  for (const size of [100, 5_000, 12 * MiB]) {
    test.serial(`${route}: ${size} bytes are echoed and counted as without the adapter`, async (t) => {
      const bytes = randomBytes(size);
      const talk = async ({ client, received }: Tunnel) => {
        client.write(bytes);
        await until(
          'the echo',
          () => received().length,
          (count) => count === size + 5,
        );
        client.end();
      };
      const { without, seen, relay } = await both(t, await optionsOf(t), await echo(t), talk, 'early');
      t.true(seen.received === `early${bytes.toString('latin1')}`);
      t.deepEqual(seen, without);
      t.like(relay, { tx: size + 5, rx: size + 5, engine, error: null });
    });
  }

  test.serial(`${route}: a target that ends first ends the tunnel as without the adapter`, async (t) => {
    const { port } = await serve(t, (socket) => socket.end('answer'));
    const { without, seen } = await both(t, await optionsOf(t), `127.0.0.1:${port}`, () => undefined);
    t.deepEqual(seen, without);
    t.is(seen.received, 'answer');
  });

  test.serial(`${route}: a reset of the target is logged and counted as without the adapter`, async (t) => {
    const { port } = await serve(t, (socket) => socket.once('data', () => socket.resetAndDestroy()));
    const talk = ({ client }: Tunnel) => void client.write('hello');
    const { without, seen } = await both(t, await optionsOf(t), `127.0.0.1:${port}`, talk);
    t.deepEqual({ ...seen, ending: '' }, { ...without, ending: '' });
    // The proxy on the way ends its own tunnel cleanly.
    t.is(seen.ending, route === 'through an HTTP proxy' ? 'end' : 'ECONNRESET');
  });

  test.serial(
    `${route}: a reset of the client is logged and counted as without the adapter, and resets the target`,
    async (t) => {
      const endings: string[] = [];
      const { port } = await serve(t, (socket) => {
        let ending = 'close';
        socket.on('error', ({ code = '' }: NodeJS.ErrnoException) => (ending = code));
        socket.on('end', () => (ending = 'end')).on('close', () => endings.push(ending));
        socket.on('end', () => socket.end());
        socket.pipe(socket, { end: false });
      });
      const talk = async ({ client, received }: Tunnel) => {
        client.write('hello');
        await until('the echo', () => received().length, Boolean);
        client.resetAndDestroy();
      };
      const { without, seen } = await both(t, await optionsOf(t), `127.0.0.1:${port}`, talk);
      t.deepEqual(seen, without);
      await until(
        'both targets are closed',
        () => endings.length,
        (count) => count === 2,
      );
      t.is(endings[1], route === 'through an HTTP proxy' ? 'end' : 'ECONNRESET');
    },
  );
}

test.serial('a target that refuses, and one that resets at once, end as without the adapter', async (t) => {
  const { port } = await serve(t, (socket) => socket.resetAndDestroy());
  for (const target of [await nobody(t), `127.0.0.1:${port}`]) {
    const endings: unknown[] = [];
    for (const options of [AT, relayTunnels(AT)]) {
      const { port: at, closed, errors } = await start(t, options);
      const client = net.connect(at, '127.0.0.1');
      client.on('error', () => undefined).resume();
      client.write(`CONNECT ${target} HTTP/1.1\r\n\r\nhello`);
      await within(20_000, 'the client is closed', once(client, 'close'));
      await until('the connection is closed', () => closed.length, Boolean);
      endings.push(errors);
    }
    t.deepEqual(endings[1], endings[0]);
    t.is((endings[0] as string[]).length, 1);
  }
});

test.serial('statistics grow while a tunnel is open, and closeConnections() ends it', async (t) => {
  const { server, port, closed } = await start(t, relayTunnels(AT));
  const { client, received, ending } = await open(t, port, await echo(t));
  const [id = -1] = server.getConnectionIds();
  const before = server.getConnectionStats(id);
  client.write(Buffer.alloc(MiB));
  await until(
    'the echo',
    () => received().length,
    (count) => count === MiB,
  );
  await until(
    'the statistics have the bytes',
    () => server.getConnectionStats(id),
    (now) =>
      now?.srcRxBytes === (before?.srcRxBytes ?? 0) + MiB &&
      now.srcTxBytes === (before?.srcTxBytes ?? 0) + MiB &&
      now.trgTxBytes === MiB &&
      now.trgRxBytes === MiB,
  );
  server.closeConnections();
  t.is(await until('the client has ended', ending, Boolean), 'ECONNRESET');
  const left = await until('connectionClosed is emitted', () => closed.length, Boolean);
  t.is(left, 1);
});

test.serial('a refused request and a plain HTTP request are served as without the adapter', async (t) => {
  const answers: string[] = [];
  const { relays } = await relaysOf(async () => {
    for (const adapt of [(options: HttpServerOptions) => options, relayTunnels]) {
      const { port, server } = await start(
        t,
        adapt({
          ...AT,
          prepareRequestFunction(this: unknown, { isHttp }) {
            answers.push(String(this === server));
            if (isHttp) return { customResponseFunction: () => ({ body: 'custom' }) };
            return { requestAuthentication: true };
          },
        }),
      );
      for (const request of [
        'CONNECT 127.0.0.1:9 HTTP/1.1\r\n\r\n',
        'GET http://127.0.0.1:9/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
      ]) {
        const client = net.connect(port, '127.0.0.1');
        const chunks: Buffer[] = [];
        client.on('data', (chunk: Buffer) => chunks.push(chunk)).write(request);
        await within(20_000, 'the client is closed', once(client, 'close'));
        answers.push(
          Buffer.concat(chunks)
            .toString()
            .replace(/^Date:.*/m, ''),
        );
      }
    }
  });
  t.is(relays.length, 0);
  t.is(answers.length, 8);
  t.deepEqual(answers.slice(4), answers.slice(0, 4));
  t.regex(answers.join('\n'), /^HTTP\/1.1 407/m);
});

test.serial(
  'rateLimit may be a limit of all tunnels, or a function that returns one for a tunnel',
  async (t) => {
    const asked: string[] = [];
    const slow = new RateLimiter(256 * 1024);
    const limits = { rateLimit: ({ username }: { username: string }) => (asked.push(username), slow) };
    const target = await echo(t);
    for (const rateLimit of [slow, limits.rateLimit]) {
      const { port } = await start(t, relayTunnels(AT, { rateLimit: rateLimit as never }));
      const { client, received } = await open(t, port, target);
      const begun = performance.now();
      client.write(Buffer.alloc(256 * 1024));
      await until(
        'the echo',
        () => received().length,
        (count) => count === 256 * 1024,
      );
      // Both directions share the limit: two seconds' worth of bytes.
      t.true(performance.now() - begun > 1000);
      client.destroy();
    }
    t.deepEqual(asked, ['']);
  },
);

test.serial('rateLimit is asked for accepted tunnels alone, and may return a promise', async (t) => {
  const asked: string[] = [];
  const options: HttpServerOptions = {
    ...AT,
    prepareRequestFunction: ({ username }) => ({ requestAuthentication: username !== 'known' }),
  };
  const slow = new RateLimiter(256 * 1024);
  const rateLimit = ({ username }: { username: string }) => {
    asked.push(username);
    return Promise.resolve(slow);
  };
  const { port } = await start(t, relayTunnels(options, { rateLimit }));
  const target = await echo(t);
  for (const [user, status] of [
    ['unknown', 407],
    ['known', 200],
  ] as const) {
    const client = await connect(t, { port });
    const credentials = Buffer.from(`${user}:x`).toString('base64');
    client.write(`CONNECT ${target} HTTP/1.1\r\nProxy-Authorization: Basic ${credentials}\r\n\r\n`);
    const [answer] = (await within(20_000, 'the answer', once(client, 'data'))) as [Buffer];
    t.true(answer.toString().startsWith(`HTTP/1.1 ${status} `), answer.toString());
    if (status !== 200) continue;
    const begun = performance.now();
    let count = 0;
    client.on('data', (chunk: Buffer) => (count += chunk.length)).write(Buffer.alloc(256 * 1024));
    await until('the echo', () => count === 256 * 1024, Boolean);
    t.true(performance.now() - begun > 1000);
  }
  t.deepEqual(asked, ['known']);
});

test.serial('options that have the adapter already take the new relay options', async (t) => {
  const asked: string[] = [];
  const limit = (name: string) => ({ rateLimit: () => (asked.push(name), undefined) });
  const inner = relayTunnels({ ...AT, verbose: false }, limit('inner'));
  const { port } = await start(t, relayTunnels({ ...inner }, limit('outer')));
  const { relays } = await relaysOf(async () => {
    const { client, received } = await open(t, port, await echo(t), 'early');
    await until('the echo', () => received().toString() === 'early', Boolean);
    client.end();
    await within(20_000, 'the client is closed', once(client, 'close'));
  });
  t.is(relays.length, 1);
  t.deepEqual(asked, ['outer']);
});

test.serial('a connection for customConnectServer stays with that server, which may relay it', async (t) => {
  const target = (await echo(t)).split(':');
  const relayed: Promise<TrafficResult>[] = [];
  const inner = net.createServer((socket) => {
    relayed.push(relayOnPipe(socket));
    socket.pipe(net.connect(Number(target[1]), target[0])).pipe(socket);
  });
  const options = { ...AT, prepareRequestFunction: () => ({ customConnectServer: inner as http.Server }) };
  const { port } = await start(t, relayTunnels(options));
  const { client, received } = await open(t, port, 'inner:1', 'early');
  await until('the echo', () => received().toString() === 'early', Boolean);
  client.end();
  t.like(await within(20_000, 'the relay ends', Promise.all(relayed)), [{ tx: 5, rx: 5 }]);
});

test.serial('a mistake in the options fails the request of a tunnel, and names the option', async (t) => {
  const { server, port } = await start(t, relayTunnels(AT, { rateLimit: -1 }));
  const failures: Error[] = [];
  server.on('requestFailed', ({ error }: { error: Error }) => failures.push(error));
  const client = net.connect(port, '127.0.0.1');
  client.write(`CONNECT ${await echo(t)} HTTP/1.1\r\n\r\n`);
  const answer = await within(20_000, 'the client is closed', text(client));
  t.regex(answer, /^HTTP\/1.1 500 /);
  t.like(failures, [{ code: 'ERR_OUT_OF_RANGE' }]);
  t.regex(failures[0]?.message ?? '', /options\.rateLimit/);
});
