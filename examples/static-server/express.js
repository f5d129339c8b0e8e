// A file server with Express. `express.static` handles the request (ranges, conditional requests, ETag, types, paths outside
// the root); fdsplice sends the bodies of large files:
//   node examples/static-server/express.js --root public --listen 127.0.0.1:8080
import { finished } from 'node:stream';
import { parseArgs } from 'node:util';
import express from 'express';
import { sendStream } from 'fdsplice/send';

const { values: settings } = parseArgs({
  options: {
    root: { type: 'string', default: 'public' },
    listen: { type: 'string', default: '127.0.0.1:8080' },
  },
});

const app = express();
app.use(sendStream);
app.use((request, response, next) => {
  finished(response, (error) => {
    const outcome = error ? `not completed: ${error}` : response.statusCode;
    console.log(`${request.method} ${request.originalUrl}: ${outcome}`);
  });
  next();
});
app.use('/files', express.static(settings.root, { redirect: false }));
app.use((error, request, response, next) => {
  console.log(`${request.originalUrl}: ${error}`);
  next(error);
});

const [, host, port] = /^(.*):(\d+)$/.exec(settings.listen);
const server = app.listen(Number(port), host, () => {
  const { address, port } = server.address();
  console.log(`listening on ${address}:${port}`);
});

// Running responses are completed. A second signal ends the process at once.
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => server.close());
