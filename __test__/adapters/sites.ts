// File servers made of real packages, each with and without its adapter, and what a client and the package observe.
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import http, { type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import { join } from 'node:path';
import type { Readable } from 'node:stream';

import type { ExecutionContext } from 'ava';
import express, { type ErrorRequestHandler } from 'express';
import { sendStream } from 'fdsplice/send';
import fdspliceFastify from 'fdsplice/fastify';
import fastify, { type FastifyInstance } from 'fastify';
import fastifyStatic from '@fastify/static';
import { send as fastifySend } from '@fastify/send';
import send from 'send';
import serveStatic from 'serve-static';
import sirv from 'sirv';

import { directory, sha256 } from '../helpers/copy-files.js';
import { within } from '../helpers/wait.js';
import { listening } from '../http/site.js';
import { Koa, type KoaApp, koaSend } from './koa.js';

/** More than an adapter leaves to the stream. */
export const SIZE = (1 << 20) + 123;

export function publicFolder(t: ExecutionContext): string {
  const root = join(directory(t), 'public');
  mkdirSync(join(root, 'folder'), { recursive: true });
  for (const name of ['big.bin', 'big.bin.br', 'big.bin.gz', 'folder/index.html', '.hidden']) {
    writeFileSync(join(root, name), randomBytes(SIZE));
  }
  writeFileSync(join(root, 'small.txt'), 'a small file');
  writeFileSync(join(root, 'empty.txt'), '');
  return root;
}

/** What the listeners of a package see of one response and of the stream that is piped into it. */
export interface Seen {
  response: string[];
  source: string[];
}

/** Records the events of a response. `end` of the source is recorded among the events of the response, too. */
export function watch(t: ExecutionContext, response: ServerResponse): Seen {
  const seen: Seen = { response: [], source: [] };
  for (const event of ['pipe', 'unpipe', 'error', 'prefinish', 'finish', 'close']) {
    response.on(event, () => seen.response.push(event));
  }
  response.on('pipe', (source: Readable) => {
    for (const event of ['open', 'ready', 'error', 'end', 'close']) {
      source.on(event, () => seen.source.push(event));
    }
    source.on('end', () => seen.response.push('end of the source'));
    // sirv leaves it open when the client has left.
    t.teardown(() => source.destroy());
  });
  return seen;
}

export interface Served {
  port: number;
  /** In the order of the requests. */
  seen: Seen[];
  /** Errors that the package passed to `next`, or to the error handler of its framework. */
  errors: { code?: string; status?: number; message: string }[];
  server: http.Server;
}

export type Options = { root: string; adapter: boolean };
type Site = (t: ExecutionContext, options: Options) => Promise<Served>;

async function serve(
  t: ExecutionContext,
  make: (served: Served) => RequestListener | Promise<RequestListener>,
): Promise<Served> {
  const served = { port: 0, seen: [], errors: [] } as unknown as Served;
  const listener = await make(served);
  served.server = http.createServer((request, response) => {
    served.seen.push(watch(t, response));
    listener(request, response);
  });
  served.port = await listening(t, served.server);
  t.teardown(() => served.server.closeAllConnections());
  return served;
}

/** The end of a chain of middleware. */
function last({ errors }: Served, response: ServerResponse) {
  return (error?: unknown) => {
    if (error) errors.push(error as Error);
    response.statusCode = error ? ((error as { status?: number }).status ?? 500) : 404;
    if (response.headersSent) response.destroy();
    else response.end('next');
  };
}

/** An Express application. The middleware of the adapter comes first. */
function expressSite(use: (app: express.Express, root: string) => void): Site {
  return (t, { root, adapter }) =>
    serve(t, (served) => {
      const app = express();
      if (adapter) app.use(sendStream);
      use(app, root);
      const failed: ErrorRequestHandler = (error: Error, _request, response, _next) =>
        void last(served, response)(error);
      app.use(failed);
      return app as RequestListener;
    });
}

function koaSite(use: (app: KoaApp, root: string) => void): Site {
  return (t, { root, adapter }) =>
    serve(t, ({ errors }) => {
      const app = new Koa();
      if (adapter) {
        app.use((context, next) => {
          sendStream(context.res);
          return next();
        });
      }
      app.on('error', (error: Error) => errors.push(error));
      use(app, root);
      return app.callback();
    });
}

function fastifySite(use: (app: FastifyInstance, root: string) => void): Site {
  return async (t, { root, adapter }) => {
    const served = { seen: [], errors: [] } as unknown as Served;
    const app = fastify({ forceCloseConnections: true });
    app.addHook('onRequest', (_request, reply, done) => {
      served.seen.push(watch(t, reply.raw));
      done();
    });
    if (adapter) await app.register(fdspliceFastify);
    app.addHook('onError', (_request, _reply, error, done) => {
      served.errors.push(error);
      done();
    });
    use(app, root);
    t.teardown(() => app.close());
    served.port = Number(new URL(await app.listen({ port: 0, host: '127.0.0.1' })).port);
    served.server = app.server;
    return served;
  };
}

const path = (request: IncomingMessage) => (request.url ?? '/').replace(/\?.*/, '');

export const sites: Record<string, Site> = {
  send: (t, { root, adapter }) =>
    serve(t, (served) => (request, response) => {
      const answer = send(request, path(request), { root });
      if (adapter) Object.assign(answer, { stream: sendStream });
      answer.on('error', last(served, response));
      answer.on('stream', () => served.seen.at(-1)?.response.push('stream'));
      answer.on('end', () => served.seen.at(-1)?.response.push('end'));
      answer.pipe(response);
    }),
  'serve-static': (t, { root, adapter }) =>
    serve(t, (served) => {
      const middleware = serveStatic(root);
      return (request, response) => {
        if (adapter) sendStream(request, response, () => {});
        middleware(request, response, last(served, response));
      };
    }),
  sirv: (t, { root, adapter }) =>
    serve(t, (served) => {
      const middleware = sirv(root, { etag: true, brotli: true, gzip: true });
      return (request, response) => {
        if (adapter) sendStream(response);
        middleware(request, response, last(served, response));
      };
    }),
  'sirv without encodings': (t, { root, adapter }) =>
    serve(t, (served) => {
      const middleware = sirv(root, { dev: true });
      return (request, response) => {
        if (adapter) sendStream(response);
        middleware(request, response, last(served, response));
      };
    }),
  'express.static': expressSite((app, root) => app.use(express.static(root))),
  'res.sendFile': expressSite((app, root) =>
    app.use((request, response, next) => {
      response.sendFile(request.path, { root }, (error?: NodeJS.ErrnoException) => {
        if (error?.code === 'ECONNABORTED') response.locals['aborted'] = true;
        if (error !== undefined) next(error);
      });
    }),
  ),
  'koa-send': koaSite((app, root) =>
    app.use(async (context) => {
      await koaSend(context, context.path, { root, index: 'index.html' });
    }),
  ),
  '@fastify/static': fastifySite((app, root) => {
    void app.register(fastifyStatic, { root, preCompressed: true });
  }),
  '@fastify/send': fastifySite((app, root) =>
    app.get('/*', async (request, reply) => {
      const { statusCode, headers, stream } = await fastifySend(request.raw, path(request.raw), { root });
      return reply.code(statusCode).headers(headers).send(stream);
    }),
  ),
};

export interface Answer {
  status: number | undefined;
  headers: http.IncomingHttpHeaders;
  body: string;
}

export async function fetchAnswer(
  port: number,
  agent: http.Agent,
  options: http.RequestOptions,
): Promise<Answer> {
  const request = http.request({ host: '127.0.0.1', port, agent, ...options }).end();
  const [message] = (await within(20_000, 'an answer', once(request, 'response'))) as [IncomingMessage];
  const chunks: Buffer[] = [];
  for await (const chunk of message) chunks.push(chunk as Buffer);
  const headers = { ...message.headers };
  delete headers.date;
  return { status: message.statusCode, headers, body: sha256(Buffer.concat(chunks)) };
}

/** An agent with one connection to each server. */
export function oneConnection(t: ExecutionContext): http.Agent {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  t.teardown(() => agent.destroy());
  return agent;
}
