// Examples with clients that end their input and close while the origin still sends, as curl does when it has its answer.
import { once } from 'node:events';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';

import test, { type ExecutionContext } from 'ava';

import { curl } from '../helpers/curl.js';
import { Example } from '../helpers/example.js';
import { Peer } from '../helpers/peer.js';
import { identity } from '../helpers/tls.js';
import { testWithTool } from '../helpers/tools.js';
import { until } from '../helpers/wait.js';

const CERTIFICATE = fileURLToPath(new URL('../fixtures/localhost.crt', import.meta.url));

/** A raw peer that listens as the origin. */
async function origin(t: ExecutionContext) {
  const peer = Peer.start(t);
  const { listener, port } = await peer.listen({ port: 0 });
  return { peer, listener, target: `127.0.0.1:${port}` };
}

/** Connects through a gateway; the client ends its input, and closes before it has all of the answer. */
async function leaveEarly(
  t: ExecutionContext,
  { peer, listener }: Awaited<ReturnType<typeof origin>>,
  port: number,
) {
  const [{ conn: client }, { conn: server }] = await Promise.all([
    peer.connect({ port }),
    peer.accept(listener),
  ]);
  await peer.writeText(client, 'hello');
  await peer.shutdown(client);
  t.like(await peer.readToEnd(server), { bytes: 5, end: 'eof' });
  await peer.close(client);
  await peer.write(server, 1 << 30, 1).catch(() => {});
}

testWithTool('curl', 'http-connect-proxy: none of 20 tunnels of curl is printed as failed', async (t) => {
  const server = https.createServer(identity, (_request, response) => response.end('answer'));
  t.teardown(() => void server.close());
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const proxy = await Example.listening(t, 'http-connect-proxy/main.js', '--allow-port', String(port));
  const through = ['--proxy', `http://127.0.0.1:${proxy.port}`, '--cacert', CERTIFICATE];
  const tunnels = 20;
  for (let tunnel = 0; tunnel < tunnels; tunnel += 1) {
    const { exit, body } = await curl(...through, `https://localhost:${port}/`);
    t.deepEqual([exit, String(body)], [0, 'answer']);
  }
  await proxy.example.line(/ bytes to the origin/, tunnels - 1);
  const lines = proxy.example.lines.filter((line) => line.includes(' bytes to the origin'));
  t.is(lines.length, tunnels);
  for (const line of lines) t.regex(line, / bytes to the origin, \d+ back(; closed by the client)?$/);
  t.log(
    `${lines.filter((line) => line.endsWith('closed by the client')).length} of them closed by the client`,
  );
});

test('tcp-proxy: a client that closes after its end is printed as such', async (t) => {
  const to = await origin(t);
  const { example, port } = await Example.listening(t, 'tcp-proxy/main.js', '--target', to.target);
  await leaveEarly(t, to, port);
  t.regex(
    await example.line(/ bytes to the target/),
    / 5 bytes to the target, \d+ back; closed by the client$/,
  );
});

test('load-balancer: a client that closes after its end is printed as such', async (t) => {
  const to = await origin(t);
  const never = ['--check-interval', '1000000'];
  const { example, port } = await Example.listening(
    t,
    'load-balancer/main.js',
    '--origin',
    to.target,
    ...never,
  );
  await leaveEarly(t, to, port);
  t.regex(await example.line(/ bytes up/), / 5 bytes up, \d+ down; closed by the client$/);
});

test('metrics-gateway: a client that closes after its end is counted as such', async (t) => {
  const to = await origin(t);
  const anywhere = ['--target', to.target, '--metrics', '127.0.0.1:0', '--rate-limit', String(1 << 30)];
  const example = new Example(t, 'metrics-gateway/main.js', ['--listen', '127.0.0.1:0', ...anywhere]);
  const port = Number(/:(\d+)$/.exec(await example.line(/^gateway on/))?.[1]);
  const [url = ''] = /http:.*/.exec(await example.line(/^metrics on/)) ?? [];
  await leaveEarly(t, to, port);
  const scrape = async () => (await fetch(url)).text();
  const text = await until('the connection is counted', scrape, (it) => it.includes('outcome='));
  t.regex(text, /^gateway_connections_ended_total\{outcome="closed_by_client"\} 1$/m);
});
