// Puts the adapter in place for every response of the HTTP servers of this process, and adds the number of bytes that
// transfers have sent to a file. scripts/test-packages.mjs imports it into the test suites of packages.
import { channel } from 'node:diagnostics_channel';
import { appendFileSync } from 'node:fs';

const { FDSPLICE_ADAPTER: adapter, FDSPLICE_INDEX: index, FDSPLICE_SENT: file } = process.env;
const { sendStream } = await import(adapter);
const { stats } = await import(index);

channel('http.server.request.start').subscribe(({ server, response }) => {
  sendStream(response);
  // Some tests close their server when they have the headers of a response whose body they never read. With the adapter the
  // headers arrive a moment earlier, and the server waits for the connection, in Fastify 72 s.
  server.keepAliveTimeout = 100;
});
process.on('exit', () => appendFileSync(file, `${stats().tx}\n`));
