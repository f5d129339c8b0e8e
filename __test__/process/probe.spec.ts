// Each undocumented part of Node that native transfers rely on is broken in a process of its own, before the package is
// loaded. The package then reports which part it is, and works on streams.
import type net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

import test, { type ExecutionContext } from 'ava';
import { relay, TransferError, type Capabilities } from 'fdsplice';

import { ended, nodeArguments, started } from '../helpers/copy-child.js';
import { nativeTest } from '../helpers/engine.js';
import { crossing } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';

// The child processes choose their engine themselves.
delete process.env['FDSPLICE_ENGINE'];

/** What the programs that break a part start with: the prototype of TCP handles, and a way to disable a property. */
const PRELUDE = `
  import http from 'node:http';
  import net from 'node:net';
  import { Readable, Writable } from 'node:stream';
  const { Socket } = net;
  const probe = net.connect(1, '127.0.0.1').on('error', () => {});
  const handles = Object.getPrototypeOf(probe._handle);
  probe.destroy();
  const states = Object.getPrototypeOf(new Readable()._readableState);
  /** Makes assignments to a property have no effect. */
  const fix = (object, name, get) =>
    Object.defineProperty(object, name, { configurable: true, get, set() {} });
  /** Calls a method as if one property was not laid over the object. */
  const without = (owner, method, name) => {
    const call = owner[method];
    owner[method] = function (...args) {
      const own = this === null ? undefined : Object.getOwnPropertyDescriptor(this, name);
      if (own === undefined) return call.apply(this, args);
      delete this[name];
      try {
        return call.apply(this, args);
      } finally {
        Object.defineProperty(this, name, own);
      }
    };
  };
`;

/** For each part, a way to break it and the start of the sentence that reports it. */
const BREAKS: Record<string, { code: string; problem: string }> = {
  'a hidden descriptor': {
    code: "fix(handles, 'fd', () => undefined);",
    problem: 'socket._handle.fd is not the descriptor',
  },
  'another descriptor': {
    code: "fix(handles, 'fd', () => 0);",
    problem: 'socket._handle.fd is not the descriptor',
  },
  'a handle without an external value': {
    code: "fix(handles, '_externalStream', () => ({}));",
    problem: 'socket._handle is not a TCP or Pipe handle',
  },
  'a handle with another class name': {
    code: "Object.defineProperty(handles.constructor, 'name', { value: 'TcpSocket' });",
    problem: 'socket._handle is not a TCP or Pipe handle',
  },
  'a renamed reading flag': {
    code: `
      const { open } = handles;
      handles.open = function (fd) {
        fix(this, 'reading', () => undefined);
        return open.call(this, fd);
      };
    `,
    problem: 'socket._handle.reading does not show',
  },
  'a readStop() without effect': {
    code: 'handles.readStop = () => 0;',
    problem: 'socket._handle.readStop() does not stop reading',
  },
  'a readStop() that fails': {
    code: 'handles.readStop = () => -22;',
    problem: 'socket._handle.readStop() does not stop reading',
  },
  'a read() that does not call _read': {
    code: "without(Socket.prototype, 'read', '_read');",
    problem: 'socket._read is not called by each read()',
  },
  'no flag for one direction': {
    code: "fix(states, 'readable', () => undefined);",
    problem: 'socket._readableState.readable and socket._writableState.writable do not show',
  },
  'a write() that does not call _write': {
    code: "without(Writable.prototype, 'write', '_write'); Socket.prototype.write = Writable.prototype.write;",
    problem: 'socket._write and socket._writev are not the methods',
  },
  'a _writev that cannot be replaced': {
    code: "const { _writev } = Socket.prototype; fix(Socket.prototype, '_writev', () => _writev);",
    problem: 'socket._write and socket._writev are not the methods',
  },
  'a _final that cannot be replaced': {
    code: "const { _final } = Socket.prototype; fix(Socket.prototype, '_final', () => _final);",
    problem: 'socket._final is not the method that end() calls',
  },
  'a renamed _unrefTimer': {
    code: "const { _unrefTimer } = Socket.prototype; fix(Socket.prototype, '_unrefTimer', () => _unrefTimer);",
    problem: 'socket._unrefTimer is not the method',
  },
  'a missing count of the handle': {
    code: "fix(handles, 'bytesWritten', () => undefined);",
    problem: 'socket.bytesRead and socket.bytesWritten are not getters',
  },
  'a renamed _onTimeout': {
    code: 'Socket.prototype._onTimeout = function () {};',
    problem: 'socket._onTimeout is not the method that the idle timer calls',
  },
  'other headers in _header': {
    code: `
      const sent = Symbol();
      Object.defineProperty(http.OutgoingMessage.prototype, '_header', {
        configurable: true,
        get() { return this[sent] ? 'HTTP/1.1 200 OK\\r\\n\\r\\n' : null; },
        set(header) { this[sent] = header; },
      });
    `,
    problem: 'response._header does not hold the headers',
  },
  'a _hasBody without effect': {
    code: "fix(http.OutgoingMessage.prototype, '_hasBody', () => true);",
    problem: 'response._hasBody does not decide',
  },
  'a renamed kBytesWritten': {
    code: `
      const { getOwnPropertySymbols } = Object;
      Object.getOwnPropertySymbols = (object) =>
        getOwnPropertySymbols(object).filter(({ description }) => description !== 'kBytesWritten');
    `,
    problem: 'response[kBytesWritten] is not the count',
  },
  'a writeQueueSize that stays 0': {
    code: "fix(handles, 'writeQueueSize', () => 0);",
    problem: 'socket._handle.writeQueueSize does not count',
  },
  'a destroy() that calls another close()': {
    code: `
      const { _destroy } = Socket.prototype;
      Socket.prototype._destroy = function (...args) {
        if (this._handle) delete this._handle.close;
        return _destroy.apply(this, args);
      };
    `,
    problem: 'socket._handle.close is not the method that destroy() calls',
  },
  'a missing reset()': {
    code: 'handles.reset = undefined;',
    problem: 'socket._handle.reset() does not reset',
  },
  'a reset() that only closes': {
    code: 'handles.reset = function (done) { Object.getPrototypeOf(this).close.call(this, done); return 0; };',
    problem: 'socket._handle.reset() does not reset',
  },
};

/** Reports the capabilities, and what a relay delivers both ways; then ends if nothing keeps the process alive. */
const RELAY = `
  import { once } from 'node:events';
  import { readdirSync, readlinkSync } from 'node:fs';
  import net from 'node:net';
  import { capabilities, relay } from 'fdsplice';
  const descriptors = () => readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      return fd + ' ' + readlinkSync('/proc/self/fd/' + fd);
    } catch {
      return [];
    }
  });
  const before = new Set(descriptors());
  const found = capabilities();
  // Threads of Node and of the C library have a file open now and then, so a descriptor counts as left when it stays.
  let left;
  for (const end = Date.now() + 5000; ; Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1)) {
    left = descriptors().filter((each) => !before.has(each));
    if (left.length === 0 || Date.now() > end) break;
  }
  const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const pair = async () => {
    const near = once(server, 'connection');
    const far = net.connect({ ...server.address(), host: '127.0.0.1', allowHalfOpen: true });
    return [(await near)[0], far];
  };
  const [[a, client], [b, origin]] = [await pair(), await pair()];
  const transfer = relay(a, b);
  client.end('ping');
  origin.end('answer');
  const read = async (socket) => Buffer.concat(await socket.toArray()).toString();
  const seen = await Promise.all([read(origin), read(client)]);
  const { tx, rx, engine } = await transfer;
  server.close();
  console.log(JSON.stringify({ found, left, relayed: [seen, tx, rx, engine] }));
`;

interface Report {
  found: Capabilities;
  /** The descriptors that the first call left open: number and target. */
  left: string[];
  relayed: unknown;
}

/** Runs a program in a Node that evaluates `preload` first, and parses the JSON that it prints. */
async function run<T>(t: ExecutionContext, program: string, preload = ''): Promise<T> {
  const url = `data:text/javascript,${encodeURIComponent(preload)}`;
  const options = ['--import', url, ...nodeArguments(program)];
  const child = started(t, process.execPath, options, ['ignore', 'pipe', 'pipe']);
  const { code, stdout, stderr } = await ended(child);
  t.is(code, 0, stderr);
  t.is(stderr, '');
  return JSON.parse(stdout.toString()) as T;
}

for (const [part, { code, problem }] of Object.entries(BREAKS)) {
  test(`with ${part}, the reason names it and a relay works on streams`, async (t) => {
    const { found, left, relayed } = await run<Report>(t, RELAY, PRELUDE + code);
    t.log(found.reason);
    t.like(found, { native: false, splice: false, sendfile: false, copyFileRange: false, pipeMaxSize: 0 });
    const start = `no native core for ${found.platform}: in Node ${process.versions.node}, ${problem}`;
    t.true(found.reason?.startsWith(start), found.reason);
    t.deepEqual(left, []);
    t.deepEqual(relayed, [['ping', 'answer'], 4, 6, 'stream']);
  });
}

test('in a healthy Node, all parts pass and no descriptor is left', async (t) => {
  const { found, left, relayed } = await run<Report>(t, RELAY);
  t.is(found.reason, undefined);
  t.true(found.native);
  t.deepEqual(left, []);
  t.deepEqual(relayed, [['ping', 'answer'], 4, 6, 'native']);
});

test('the probe runs once, and leaves no active handle', async (t) => {
  const program = `
    import { createHook } from 'node:async_hooks';
    import { capabilities, RateLimiter, stats } from 'fdsplice';
    let sockets = 0;
    createHook({ init(_id, type) { if (type === 'TCPWRAP') sockets += 1; } }).enable();
    const counts = [sockets];
    for (const use of [capabilities, capabilities, stats, () => new RateLimiter(1)]) {
      use();
      counts.push(sockets);
    }
    await new Promise(setImmediate);
    await new Promise(setImmediate);
    console.log(JSON.stringify({ counts, active: process.getActiveResourcesInfo() }));
  `;
  const { counts, active } = await run<{ counts: number[]; active: string[] }>(t, program);
  // One for each end of the pair, at the first use.
  t.deepEqual(counts, [0, 2, 2, 2, 2]);
  t.false(active.includes('TCPSocketWrap'), active.join());
});

test('a transfer runs the probe before it starts', async (t) => {
  const program = RELAY.replace('const found = capabilities();', 'const found = {};').replace(
    'server.close();',
    'server.close(); Object.assign(found, capabilities());',
  );
  const { found, relayed } = await run<Report>(t, program, `${PRELUDE} handles.readStop = () => 0;`);
  t.regex(found.reason ?? '', /readStop\(\) does not stop reading$/);
  t.deepEqual(relayed, [['ping', 'answer'], 4, 6, 'stream']);
});

test('without descriptors the probe waits until there are some', async (t) => {
  const program = `
    import { createHook } from 'node:async_hooks';
    import { closeSync, openSync } from 'node:fs';
    import { capabilities } from 'fdsplice';
    let sockets = 0;
    createHook({ init(_id, type) { if (type === 'TCPWRAP') sockets += 1; } }).enable();
    const taken = [];
    try {
      for (;;) taken.push(openSync('/dev/null'));
    } catch {}
    const counts = [capabilities().native, sockets];
    for (const fd of taken) closeSync(fd);
    // Within one turn of the event loop the answer stays the same.
    counts.push(capabilities().native, sockets);
    await new Promise(setImmediate);
    counts.push(capabilities().native, sockets);
    console.log(JSON.stringify(counts));
  `;
  t.deepEqual(await run(t, program), [true, 0, true, 0, true, 2]);
});

test('a program that observes or replaces methods of sockets and responses keeps the core, and sees no probe', async (t) => {
  const program = `
    import { channel } from 'node:diagnostics_channel';
    import { Socket } from 'node:net';
    import { PerformanceObserver } from 'node:perf_hooks';
    import { ServerResponse } from 'node:http';
    import { capabilities } from 'fdsplice';
    const seen = [];
    for (const name of ['http.server.response.created', 'http.server.request.start']) {
      channel(name).subscribe(({ request }) => seen.push(request.headers.host.length));
    }
    new PerformanceObserver((list) => seen.push(...list.getEntries().map(({ name }) => name)))
      .observe({ entryTypes: ['http', 'net'] });
    for (const [owner, name] of [[ServerResponse, 'writeHead'], [Socket, 'write'], [Socket, 'end']]) {
      const call = owner.prototype[name];
      owner.prototype[name] = function (...args) {
        seen.push(name);
        process.nextTick(() => call.apply(this, args));
        return true;
      };
    }
    const { native, reason } = capabilities();
    await new Promise((resolve) => setTimeout(resolve, 50));
    console.log(JSON.stringify([native, reason ?? null, seen]));
  `;
  t.deepEqual(await run(t, program), [true, null, []]);
});

test('a worker runs a probe of its own', async (t) => {
  const program = `
    import { once } from 'node:events';
    import { Worker } from 'node:worker_threads';
    import { capabilities } from 'fdsplice';
    const code = "Promise.all([import('node:worker_threads'), import('fdsplice')])" +
      ".then(([{ parentPort }, { capabilities }]) => parentPort.postMessage(capabilities().native))";
    const [inWorker] = await once(new Worker(code, { eval: true }), 'message');
    console.log(JSON.stringify([capabilities().native, inWorker]));
  `;
  t.deepEqual(await run(t, program), [true, true]);
});

test('the probe costs little', async (t) => {
  const program = `
    import { capabilities } from 'fdsplice';
    const before = process.cpuUsage();
    capabilities();
    const { user, system } = process.cpuUsage(before);
    console.log(JSON.stringify((user + system) / 1000));
  `;
  const costs: number[] = [];
  for (let round = 0; round < 5; round += 1) costs.push(await run<number>(t, program));
  const median = costs.sort((one, other) => one - other)[2] ?? NaN;
  t.log(`${median.toFixed(1)} ms of CPU time at the median`);
  t.true(median < 50, `${median} ms`);
});

const FAILING: Record<string, (() => number) | undefined> = {
  'returns an error': () => -22,
  throws: () => {
    throw new Error('no');
  },
  'is missing': undefined,
};

for (const [behaviour, readStop] of Object.entries(FAILING)) {
  nativeTest(`a relay fails if Node does not stop reading its socket: readStop() ${behaviour}`, async (t) => {
    const peer = Peer.start(t);
    const meet = await crossing(t, peer, 'tcp');
    const { a, b } = await meet();
    // Reading starts in the next turn.
    a.resume();
    await sleep(10);
    const { _handle: handle } = a as net.Socket & { _handle: { reading: boolean; readStop: unknown } };
    t.true(handle.reading);
    handle.readStop = readStop;
    const error = await t.throwsAsync(relay(a, b), { instanceOf: TransferError });
    t.like(error, { code: 'ERR_INVALID_STATE', side: 'a' });
    t.true(a.destroyed && b.destroyed);
  });
}
