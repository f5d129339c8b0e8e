// A program that replaces the timers before it loads the package, as a test with a dynamic import does. Prints the methods
// and the counts of the transfers that it has completed, as JSON.
import http from 'node:http';
import net from 'node:net';
import { once } from 'node:events';
import { PassThrough } from 'node:stream';
import { mock } from 'node:test';

const [small, large] = process.argv.slice(2);
mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'setImmediate', 'Date'] });
const { copy, sendFile } = await import('fdsplice');

const done = [];
const serving = [];
const server = http.createServer((request, response) => {
  const path = request.url === '/small' ? small : large;
  serving.push(sendFile(path, response).then(({ tx }) => done.push([request.method, tx])));
});
server.listen(0, '127.0.0.1');
await once(server, 'listening');
for (const line of ['GET /small', 'HEAD /small', 'GET /large']) {
  const socket = net.connect(server.address().port, '127.0.0.1').resume();
  socket.write(`${line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
  await once(socket, 'close');
  // The client may see the end before the transfer settles.
  await Promise.all(serving);
}
const source = new PassThrough();
source.end('four');
done.push(['copy', (await copy(source, new PassThrough().resume())).tx]);
server.close();
console.log(JSON.stringify(done));
