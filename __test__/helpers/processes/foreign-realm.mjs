// Loads the package into a realm of its own, as jest does, and runs one transfer of each verb there:
// `node --experimental-vm-modules foreign-realm.mjs <file>`. It prints what the transfers report, as JSON.
import { once } from 'node:events';
import { openSync, readFileSync } from 'node:fs';
import net from 'node:net';
import { fileURLToPath } from 'node:url';
import vm from 'node:vm';

// Like the environment of jest: the globals of Node without the symbols that Node adds to those of JavaScript.
const realm = vm.createContext({ process, Buffer, URL, AbortController, AbortSignal, console });
const loaded = new Map();

function load(specifier, referrer) {
  if (specifier.startsWith('node:')) return builtin(specifier);
  const url = specifier.startsWith('.') ? new URL(specifier, referrer).href : import.meta.resolve(specifier);
  if (loaded.has(url)) return loaded.get(url);
  const module = new vm.SourceTextModule(readFileSync(fileURLToPath(url), 'utf8'), {
    context: realm,
    identifier: url,
    initializeImportMeta: (meta) => (meta.url = url),
  });
  loaded.set(url, module);
  return module;
}

async function builtin(name) {
  const namespace = await import(name);
  const names = Object.keys(namespace);
  const evaluate = function () {
    for (const each of names) this.setExport(each, namespace[each]);
  };
  return new vm.SyntheticModule(names, evaluate, { context: realm, identifier: name });
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

const fdsplice = load('fdsplice');
await fdsplice.link((specifier, { identifier }) => load(specifier, identifier));
await fdsplice.evaluate();
const { copy, relay, sendFile } = fdsplice.namespace;

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
