// A file server with Fastify: @fastify/send computes status and headers, sendFile sends the body:
//   node examples/static-server/fastify.js --root public --listen 127.0.0.1:8080
import { parseArgs } from 'node:util';
import { send } from '@fastify/send';
import fastify from 'fastify';
import { sendFile } from 'fdsplice';

const { values: settings } = parseArgs({
  options: {
    root: { type: 'string', default: 'public' },
    listen: { type: 'string', default: '127.0.0.1:8080' },
  },
});

const app = fastify();
app.get('/files/*', async (request, reply) => {
  const { headers } = request;
  // For a HEAD request @fastify/send opens no file and creates no stream.
  const path = request.raw.url.slice('/files'.length).replace(/\?.*/, '');
  const answer = await send({ method: 'HEAD', headers }, path, { root: settings.root });
  const hasFile = answer.type === 'file' && (answer.statusCode === 200 || answer.statusCode === 206);
  if (request.method === 'HEAD' || !hasFile) {
    return reply.code(answer.statusCode).headers(answer.headers).send(answer.stream);
  }
  reply.hijack();
  reply.raw.writeHead(answer.statusCode, answer.headers);
  const range = /^bytes (\d+)-(\d+)\//.exec(answer.headers['Content-Range'] ?? '');
  const part = range === null ? {} : { start: Number(range[1]), end: Number(range[2]) };
  try {
    const { tx } = await sendFile(answer.metadata.path, reply.raw, part);
    console.log(`${request.url}: ${tx} bytes`);
  } catch (error) {
    // The headers may have been sent, and the file may have changed since then.
    reply.raw.destroy();
    console.log(`${request.url}: ${error}`);
  }
  return reply;
});

const [, host, port] = /^(.*):(\d+)$/.exec(settings.listen);
console.log(`listening on ${(await app.listen({ host, port: Number(port) })).replace('http://', '')}`);

// Running responses are completed. A second signal ends the process at once.
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => void app.close());
