// An HTTP file server on Node. `--with` selects the sender: ours, createReadStream().pipe(), send, or memory.
import { createReadStream } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { loadOurs } from './ours.mjs';

const { values: settings } = parseArgs({
  options: {
    listen: { type: 'string' },
    directory: { type: 'string' },
    with: { type: 'string' },
    package: { type: 'string' },
  },
});

/** `createReadStream().pipe()`, with the length and the error handling that it leaves to its user. */
function pipe(highWaterMark) {
  return async (path, _request, response) => {
    response.setHeader('Content-Length', (await stat(path)).size);
    const file = createReadStream(path, { highWaterMark });
    file.on('error', (error) => response.destroy(error));
    response.on('close', () => file.destroy());
    file.pipe(response);
  };
}

const senders = {
  async ours() {
    const { sendFile } = await loadOurs(settings.package);
    return (path, _request, response) => sendFile(path, response);
  },
  'pipe-64': () => pipe(64 * 1024),
  'pipe-1024': () => pipe(1024 * 1024),
  /** Not a peer: the cost of Node's HTTP without a file. */
  memory() {
    const bodies = new Map();
    return async (path, _request, response) => {
      if (!bodies.has(path)) bodies.set(path, await readFile(path));
      response.end(bodies.get(path));
    };
  },
  async send() {
    const { default: send } = await import('send');
    return (path, request, response) => {
      send(request, path)
        .on('error', (error) => response.destroy(error))
        .pipe(response);
    };
  },
};

const sender = await senders[settings.with]();
const server = createServer(async (request, response) => {
  try {
    await sender(join(settings.directory, request.url), request, response);
  } catch (error) {
    console.error(String(error));
    response.destroy();
  }
});
const colon = settings.listen.lastIndexOf(':');
const [host, port] = [settings.listen.slice(0, colon), Number(settings.listen.slice(colon + 1))];
server.listen({ host, port, backlog: 1024 }, () => console.log(`listening ${server.address().port}`));
