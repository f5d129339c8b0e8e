// HTTP servers and clients with a single connection to them, shared by the specs of responses.
import { once } from 'node:events';
import http, { type IncomingMessage, type RequestListener } from 'node:http';
import http2, { type Http2ServerRequest, type Http2ServerResponse } from 'node:http2';
import net, { type AddressInfo } from 'node:net';

import type { ExecutionContext } from 'ava';

import { within } from '../helpers/wait.js';

export interface Site {
  port: number;
  agent: http.Agent;
}

export async function listening(t: ExecutionContext, server: net.Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  t.teardown(() => void server.close());
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

/** A server, and an agent with at most one connection to it. */
export async function site(t: ExecutionContext, handler: RequestListener, options = {}): Promise<Site> {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  t.teardown(() => agent.destroy());
  return { port: await listening(t, http.createServer(options, handler)), agent };
}

/** A client with an HTTP/2 session to a server. */
export async function http2Client(
  t: ExecutionContext,
  handler: (request: Http2ServerRequest, response: Http2ServerResponse) => void,
): Promise<http2.ClientHttp2Session> {
  const client = http2.connect(`http://127.0.0.1:${await listening(t, http2.createServer(handler))}`);
  t.teardown(() => client.destroy());
  return client;
}

interface Answer {
  status: number | undefined;
  headers: http.IncomingHttpHeaders;
  body: Buffer;
}

export async function collect(message: IncomingMessage): Promise<Answer> {
  const chunks: Buffer[] = [];
  for await (const chunk of message) chunks.push(chunk as Buffer);
  return { status: message.statusCode, headers: message.headers, body: Buffer.concat(chunks) };
}

export async function get({ port, agent }: Site, options: http.RequestOptions = {}): Promise<Answer> {
  const request = http.request({ host: '127.0.0.1', port, agent, ...options }).end();
  const [message] = (await within(20_000, 'an answer', once(request, 'response'))) as [IncomingMessage];
  return collect(message);
}

/** Everything received on one connection in answer to raw request lines. */
export async function exchanged(port: number, ...requests: string[]): Promise<string> {
  const socket = net.connect(port, '127.0.0.1');
  const last = requests.length - 1;
  for (const [index, line] of requests.entries()) {
    const close = index === last ? 'Connection: close\r\n' : '';
    socket.write(`${line}${/ HTTP\/1\.\d$/.test(line) ? '' : ' HTTP/1.1'}\r\nHost: x\r\n${close}\r\n`);
  }
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk)).on('error', () => {});
  await within(20_000, 'the connection ends', once(socket, 'close'));
  return Buffer.concat(chunks).toString('latin1');
}

/** The bodies on one connection; each response has a Content-Length of `length`. */
export function bodiesIn(received: string, length: number): string[] {
  const bodies = [];
  for (let rest = received; rest !== '';) {
    const body = rest.indexOf('\r\n\r\n') + 4;
    if (!rest.startsWith('HTTP/1.1 200 OK\r\n') || body < 4) return [...bodies, `stray: ${rest}`];
    bodies.push(rest.slice(body, body + length));
    rest = rest.slice(body + length);
  }
  return bodies;
}
