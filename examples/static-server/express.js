// Big files with Express, which `send` looks after as ever (ranges, conditional requests, ETag, types, no way out of the
// root); only its stream is replaced by sendFile:
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
    // Gone between being looked at and being opened.
    if (error && !response.headersSent) answer.onStatError(error);
  };
  answer.on('error', next).pipe(response);
});

const [, host, port] = /^(.*):(\d+)$/.exec(settings.listen);
const server = app.listen(Number(port), host, () => {
  const { address, port } = server.address();
  console.log(`listening on ${address}:${port}`);
});

// What is being sent is sent to its end. A second signal ends the process at once.
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => server.close());
