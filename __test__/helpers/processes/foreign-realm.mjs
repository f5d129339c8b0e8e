// Loads the package into a realm of its own, as jest does, and runs one transfer of each verb there:
// `node foreign-realm.mjs <file>`. It prints what the transfers report, as JSON.
import { once } from 'node:events';
import { openSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import net from 'node:net';
import vm from 'node:vm';

// Like the environment of jest: the globals of Node without the symbols that Node adds to those of JavaScript.
const realm = vm.createContext({ process, Buffer, URL, AbortController, AbortSignal, console });

function load(name) {
  const require = createRequire(import.meta.url);
  const filename = require.resolve(name);
  const parameters = ['module', 'exports', 'require', '__filename'];
  const code = readFileSync(filename, 'utf8');
  const module = { exports: {} };
  const evaluate = vm.compileFunction(code, parameters, { parsingContext: realm, filename });
  evaluate(module, module.exports, require, filename);
  return module.exports;
}

async function connected() {
  const server = net.createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const near = net.connect({ port: server.address().port, host: '127.0.0.1', allowHalfOpen: true });
  const [far] = await once(server, 'connection');
  server.close();
  for (const socket of [near, far]) socket.on('error', () => {});
  return [near, far];
}

const { copy, relay, sendFile } = load('fdsplice');

const path = process.argv[2];
const abort = new AbortController();
const { signal } = abort;
const [[a], [b, peer]] = await Promise.all([connected(), connected()]);
const relayed = relay(a, b, { signal, reject: false, headFromA: new Uint8Array([65]) });
const [head] = await once(peer, 'data');
const sent = await sendFile(new URL(`file://${path}`), peer, { signal: new AbortController().signal });
const copied = await copy(openSync(path), peer, { signal: new AbortController().signal });
abort.abort();
const { error } = await relayed;
peer.destroy();
// The failure of a connect to each address of a name is an AggregateError of another realm.
const refused = net.connect({ port: 1, host: 'localhost', autoSelectFamily: true });
const unconnected = await relay(refused, (await connected())[0], { reject: false });
console.log(
  JSON.stringify({
    head: String(head),
    sent: sent.total,
    copied: copied.total,
    relay: error.code,
    refused: unconnected.error.code,
  }),
);
process.exit();
