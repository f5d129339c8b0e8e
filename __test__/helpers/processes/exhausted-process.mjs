// The program of exhaustion tests: `node exhausted-process.mjs <descriptors|threads> <main|worker> <port>`. It runs each
// kind of transfer while the process has no descriptor or no thread left, before the core has started any thread of its
// own, and again when there are some. Connections to the port are never accepted. It prints one line of JSON for each
// transfer, and one for each uncaught exception.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { PassThrough } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { isMainThread, Worker } from 'node:worker_threads';

import { copy, relay, sendFile, stats } from 'fdsplice';

const [resource, thread, unanswered] = process.argv.slice(2);
const print = (...values) => writeSync(1, `${JSON.stringify(values)}\n`);
if (thread === 'worker' && isMainThread) {
  const worker = new Worker(new URL(import.meta.url), { argv: process.argv.slice(2) });
  worker.on('error', (error) => print('uncaught', error.message));
  await new Promise((resolve) => worker.on('exit', resolve));
  process.exit(0);
}
const quiet = { reject: false };

/** Polls until a condition holds. */
const until = async (condition) => {
  for (let round = 0; round < 2000; round += 1) {
    if (condition()) return true;
    await sleep(10);
  }
  return false;
};

const taken = [];
/** Leaves only `spare` free descriptors. */
const takeDescriptors = (spare) => {
  try {
    for (;;) taken.push(openSync('/dev/null'));
  } catch (error) {
    if (error.code !== 'EMFILE') throw error;
  }
  for (const fd of taken.splice(0, spare)) closeSync(fd);
};
const freeDescriptors = () => {
  for (const fd of taken.splice(0)) closeSync(fd);
};
const open = () => readdirSync('/proc/self/fd').length;

/** A shell, which is not limited itself, sets the limit: a process at its limit cannot start a program that lifts it. */
const shell = spawn('sh', { stdio: ['pipe', 'pipe', 'inherit'] });
const [, unlimited] = /^Max processes +(\w+)/m.exec(readFileSync('/proc/self/limits', 'utf8'));
const limitThreads = async (limit) => {
  shell.stdin.write(`prlimit --pid ${process.pid} --nproc=${limit}: && echo done\n`);
  await once(shell.stdout, 'data');
};

const half = { allowHalfOpen: true };
const server = net.createServer({ ...half, pauseOnConnect: true }).listen(0, '127.0.0.1');
const echo = net
  .createServer(half, (socket) => socket.on('error', () => {}).pipe(socket))
  .listen(0, '127.0.0.1');
const site = http.createServer().listen(0, '127.0.0.1');
await Promise.all([server, echo, site].map((each) => each.listening || once(each, 'listening')));
const connect = (to) =>
  net.connect({ ...half, port: to.address().port, host: '127.0.0.1' }).on('error', () => {});
/** Both ends of a connection. */
const meet = async () => {
  const outer = connect(server);
  const [[inner]] = await Promise.all([once(server, 'connection'), once(outer, 'connect')]);
  return [outer, inner];
};
const numberOf = (socket) => socket._handle.fd;
/** Whether a stream has the methods of its class. */
const isRestored = (stream) =>
  ['write', 'end', 'emit', 'cork', '_read', '_write'].every(
    (key) => stream[key] === Object.getPrototypeOf(stream)[key],
  );
/** Everything that a socket receives until it is closed. */
const received = (socket) =>
  new Promise((resolve) => {
    const chunks = [];
    socket.on('data', (chunk) => chunks.push(chunk));
    socket.on('end', () => socket.end()).on('close', () => resolve(Buffer.concat(chunks).toString()));
  });
const directory = mkdtempSync(`${tmpdir()}/fdsplice-`);
const large = `${directory}/large`;
writeFileSync(large, Buffer.alloc(1 << 20, 'x'));

/** A relay, started by `begin`, between a stream and the number of a socket. */
const relayByNumber = async (begin) => {
  const [client, socket] = await meet();
  const stream = new PassThrough();
  return {
    start: () => {
      client.end('hello');
      return begin(stream, numberOf(socket));
    },
    isLeft: () => stream.destroyed && isRestored(stream) && !socket.destroyed,
    works: async () => (await received(client)) === 'hello' && isRestored(stream),
    sockets: [client, socket],
  };
};

/**
 * The kinds of transfers. Each is set up while there are descriptors; `start` is called without. `isLeft` checks what the
 * contract leaves after a failure, `works` what arrives without one.
 */
const kinds = {
  'relay, b connecting': async () => {
    const [client, a] = await meet();
    const b = connect(echo);
    return { ...joined(client, a, b), sockets: [client] };
  },
  'relay, both connected': async () => {
    const [client, a] = await meet();
    const b = connect(echo);
    await once(b, 'connect');
    return { ...joined(client, a, b), sockets: [client] };
  },
  'copy of a socket to a file': async () => {
    const [client, source] = await meet();
    client.write('hello');
    source.read(0);
    await until(() => source.readableLength === 5);
    const path = `${directory}/copied`;
    const fd = openSync(path, 'w+');
    return {
      start: () => copy(source, fd, { ...quiet, length: 5 }),
      isLeft: () => isRestored(source) && String(source.read()) === 'hello',
      works: () => readFileSync(path, 'utf8') === 'hello',
      sockets: [client, source],
      files: [fd],
    };
  },
  'copy of a file to a file': async () => {
    const path = `${directory}/target`;
    const files = [openSync(large), openSync(path, 'w+')];
    return {
      start: () => copy(...files, quiet),
      isLeft: () => readFileSync(path).length === 0,
      works: () => readFileSync(path).length === 1 << 20,
      files,
    };
  },
  'sendFile to a socket': async () => {
    const [client, destination] = await meet();
    const reading = received(client);
    return {
      start: () => sendFile(large, destination, quiet),
      isLeft: () => isRestored(destination) && !destination.destroyed,
      works: async () => (destination.end(), (await reading).length === 1 << 20),
      sockets: [client, destination],
    };
  },
  'sendFile to a response': async () => {
    const client = connect(site);
    client.write('GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
    const [, response] = await once(site, 'request');
    const reading = received(client);
    return {
      start: () => sendFile(large, response, quiet),
      isLeft: async () =>
        response.headersSent
          ? response.destroyed && (await reading).length < 1 << 20
          : isRestored(response) && response.destroy() && true,
      works: async () => (await reading).length > 1 << 20,
      sockets: [client],
    };
  },
  'copy of a file to a response': async () => {
    const client = connect(site);
    client.write('GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
    const [, response] = await once(site, 'request');
    response.setHeader('Content-Length', 1 << 20);
    const reading = received(client);
    const fd = openSync(large);
    return {
      start: () => copy(fd, response, { ...quiet, endDestination: true }),
      isLeft: async () =>
        response.headersSent
          ? response.destroyed && (await reading).length < 1 << 20
          : isRestored(response) && response.destroy() && true,
      works: async () => (await reading).length > 1 << 20,
      sockets: [client],
      files: [fd],
    };
  },
  'sendFile to a pipelined response': async () => {
    const client = connect(site);
    const request = 'GET / HTTP/1.1\r\nHost: localhost\r\n';
    client.write(`${request}\r\n${request}Connection: close\r\n\r\n`);
    const responses = [];
    const add = (_, response) => responses.push(response);
    site.on('request', add);
    await until(() => responses.length === 2);
    site.off('request', add);
    const [first, second] = responses;
    const reading = received(client);
    return {
      start: () => {
        const sending = sendFile(large, second, quiet);
        setTimeout(() => first.end('first'), 20);
        return sending;
      },
      isLeft: async () =>
        second.headersSent ? second.destroyed && (await reading).length < 1 << 20 : isRestored(second),
      works: async () => (await reading).length > 1 << 20,
      sockets: [client],
    };
  },
  'relay of a stream and a number': () => relayByNumber((stream, number) => relay(stream, number, quiet)),
  'relay of a number and a stream': () => relayByNumber((stream, number) => relay(number, stream, quiet)),
  'copy of a stream to a number': async () => {
    const [client, socket] = await meet();
    const stream = new PassThrough();
    stream.end('hello');
    return {
      start: () => copy(stream, numberOf(socket), quiet),
      // The end of the stream may have been read too, and then nothing can be put back.
      isLeft: ({ undelivered }) => isRestored(stream) && String(undelivered ?? stream.read()) === 'hello',
      works: async () => (socket.end(), (await received(client)) === 'hello'),
      sockets: [client, socket],
    };
  },
  'copy of a number to a stream': async () => {
    const [client, socket] = await meet();
    client.end('hello');
    const stream = new PassThrough();
    return {
      start: () => copy(numberOf(socket), stream, quiet),
      isLeft: () => isRestored(stream) && !stream.destroyed,
      works: () => isRestored(stream) && String(stream.read()) === 'hello',
      sockets: [client, socket],
    };
  },
};

/** A relay of `a` and of `b`, whose peer is the echo. */
function joined(client, a, b) {
  return {
    start: () => {
      client.end('hello');
      return relay(a, b, quiet);
    },
    isLeft: () => a.destroyed && b.destroyed,
    works: async () => (await received(client)) === 'hello',
  };
}

/** Runs one transfer with as few descriptors or threads as `limit` leaves. */
async function run(kind, limit, lift) {
  const before = open();
  const { start, isLeft, works, sockets = [], files = [] } = await kinds[kind]();
  await limit();
  let result;
  try {
    result = await start();
  } catch (error) {
    result = { error, thrown: true };
  }
  await lift();
  const { error = null, thrown = false } = result;
  const isRight = await (error === null ? works() : isLeft(error));
  for (const socket of sockets) socket.destroy();
  for (const fd of files) closeSync(fd);
  return { error, thrown, isRight, before };
}

/** Whether nothing is left of the transfers. */
async function nothingLeft(before) {
  return (await until(() => open() <= before)) && stats().active === 0;
}

const report = async (phase, kind, { error, thrown, isRight }, before) => {
  const how = error === null ? ['done'] : [error.code, error.syscall];
  print(phase, kind, ...how, !thrown && isRight, before === undefined || (await nothingLeft(before)));
};
const nothing = () => {};

/** A relay whose second end stays connecting: the first one is watched meanwhile, if that is possible. */
async function waiting(limit, lift) {
  const before = open();
  const [client, a] = await meet();
  const b = net.connect(Number(unanswered), '127.0.0.1');
  // Node opens the socket in the next tick.
  await sleep(1);
  await limit();
  const ending = relay(a, b, quiet);
  await sleep(200);
  ending.abort();
  const { error } = await ending;
  await lift();
  client.destroy();
  print('waiting', error.code, a.destroyed && b.destroyed, await nothingLeft(before));
}

async function withoutDescriptors() {
  for (const spare of [0, 1]) await waiting(() => takeDescriptors(spare), freeDescriptors);
  for (const kind of Object.keys(kinds)) {
    const calls = [];
    // With no descriptor, the duplicates fail; with a few, the threads of the core cannot be started.
    for (let spare = 0; spare < 12; spare += 1) {
      const { before, ...result } = await run(kind, () => takeDescriptors(spare), freeDescriptors);
      const { error, thrown, isRight } = result;
      const isClean = await nothingLeft(before);
      if (error?.code !== 'EMFILE' || thrown || !isRight || !isClean) {
        print('wrong', kind, spare, error?.code ?? null, error?.message ?? null, thrown, isRight, isClean);
        break;
      }
      calls.push(error.syscall);
      if (error.syscall === 'epoll_create1') break;
    }
    print('first', kind, calls.at(-1));
  }
  for (const kind of Object.keys(kinds)) await report('later', kind, await run(kind, nothing, nothing));
}

async function withoutThreads() {
  const limit = () => limitThreads(1);
  const lift = () => limitThreads(unlimited);
  await waiting(limit, lift);
  for (const kind of Object.keys(kinds)) {
    const { before, ...result } = await run(kind, limit, lift);
    await report('first', kind, result, before);
  }
  // A relay starts the workers, and no thread for blocking calls.
  await report('alone', 'relay, both connected', await run('relay, both connected', nothing, nothing));
  for (const kind of Object.keys(kinds)) await report('workers', kind, await run(kind, limit, lift));
  for (const kind of Object.keys(kinds)) await report('later', kind, await run(kind, nothing, nothing));
}

process.on('uncaughtException', (error) => print('uncaught', error.message));
process.on('unhandledRejection', (error) => print('unhandled', String(error)));
await (resource === 'threads' ? withoutThreads() : withoutDescriptors());
rmSync(directory, { recursive: true });
process.exit(0);
