// A file server with Express. `send` handles the request (ranges, conditional requests, ETag, types, paths outside the
// root); sendFile replaces its stream:
//   node examples/static-server/express.js --root public --listen 127.0.0.1:8080
import { parseArgs } from 'node:util';
import express from 'express';
import { sendFile } from 'fdsplice';
import send from 'send';

const { values: settings } = parseArgs({
  options: {
    root: { type: 'string', default: 'public' },
    listen: { type: 'string', default: '127.0.0.1:8080' },
  },
});

const app = express();
app.get('/files/*path', (request, response, next) => {
  const path = request.path.slice('/files'.length);
  const answer = send(request, path, { root: settings.root });
  answer.stream = async (file, { start, end }) => {
    const { tx, error } = await sendFile(file, response, { start, end, reject: false });
    if (error) console.log(`${request.originalUrl}: ${error}`);
    else console.log(`${request.originalUrl}: ${tx} bytes`);
    // The file was removed between stat and open.
    if (error && !response.headersSent) answer.onStatError(error);
  };
  answer.on('error', next).pipe(response);
});

const [, host, port] = /^(.*):(\d+)$/.exec(settings.listen);
const server = app.listen(Number(port), host, () => {
  const { address, port } = server.address();
  console.log(`listening on ${address}:${port}`);
});

// Running responses are completed. A second signal ends the process at once.
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => server.close());
