// A file server with Fastify. `@fastify/static` handles the request (ranges, conditional requests, ETag, types, paths
// outside the root); fdsplice sends the bodies of large files:
//   node examples/static-server/fastify.js --root public --listen 127.0.0.1:8080
import { finished } from 'node:stream';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import fastifyStatic from '@fastify/static';
import fastify from 'fastify';
import fdsplice from 'fdsplice/fastify';

const { values: settings } = parseArgs({
  options: {
    root: { type: 'string', default: 'public' },
    listen: { type: 'string', default: '127.0.0.1:8080' },
  },
});

const app = fastify();
await app.register(fdsplice);
app.addHook('onRequest', async (request, reply) => {
  finished(reply.raw, (error) => {
    const outcome = error ? `not completed: ${error}` : reply.statusCode;
    console.log(`${request.method} ${request.url}: ${outcome}`);
  });
});
app.addHook('onError', async (request, _reply, error) => console.log(`${request.url}: ${error}`));
await app.register(fastifyStatic, { root: resolve(settings.root), prefix: '/files/', dotfiles: 'ignore' });

const [, host, port] = /^(.*):(\d+)$/.exec(settings.listen);
console.log(`listening on ${(await app.listen({ host, port: Number(port) })).replace('http://', '')}`);

// Running responses are completed. A second signal ends the process at once.
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => void app.close());
