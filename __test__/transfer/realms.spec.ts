// Arguments that another realm or a polyfill made are accepted as Node accepts them, and served in the same way.
import { execFile } from 'node:child_process';
import { PassThrough } from 'node:stream';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { runInNewContext } from 'node:vm';

import { AbortController as Polyfill } from 'abort-controller';
import test from 'ava';
import { copy, relay, sendFile } from 'fdsplice';
import { URL as OtherUrl } from 'whatwg-url';

import { directory, KiB, opened, sample } from '../helpers/copy-files.js';
import { failure } from '../helpers/failure.js';
import { nothingIsLeft } from '../helpers/left.js';
import { pair } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';
import { within } from '../helpers/wait.js';

nothingIsLeft(test, 'behind all tests');

test('an AbortSignal of a polyfill aborts each verb', async (t) => {
  const peer = Peer.start(t);
  const { path } = sample(t, KiB);
  const { a, b } = await pair(t, peer);
  const other = await pair(t, peer);
  const running = new Polyfill();
  const relayed = relay(a, b, { signal: running.signal as AbortSignal });
  const copied = copy(other.a, other.b, { signal: running.signal as AbortSignal });
  const early = new Polyfill();
  early.abort();
  const sent = sendFile(path, opened(t, `${directory(t)}/sink`, 'w'), {
    signal: early.signal as AbortSignal,
  });
  running.abort();
  for (const transfer of [relayed, copied, sent]) {
    t.like(await failure(t, transfer), { name: 'AbortError', code: 'ABORT_ERR' });
  }
});

test('a signal of a polyfill has no listener after transfers to each kind of destination', async (t) => {
  const { path } = sample(t, KiB);
  const { signal } = new Polyfill();
  const listeners = new Set<unknown>();
  const add = signal.addEventListener.bind(signal);
  const remove = signal.removeEventListener.bind(signal);
  signal.addEventListener = (...args: Parameters<typeof add>) => {
    listeners.add(args[1]);
    add(...args);
  };
  signal.removeEventListener = (...args: Parameters<typeof remove>) => {
    listeners.delete(args[1]);
    remove(...args);
  };
  for (const destination of [opened(t, `${directory(t)}/sink`, 'w'), new PassThrough().resume()]) {
    await sendFile(path, destination, { signal: signal as AbortSignal });
    t.is(listeners.size, 0);
  }
});

/** Signals that Node accepts as such, although a method or a property of theirs is missing or throws. */
const POOR_SIGNALS: Record<string, (signal: AbortSignal) => void> = {
  'without removeEventListener': (signal) => Object.assign(signal, { removeEventListener: undefined }),
  'with a removeEventListener that throws': (signal) =>
    Object.assign(signal, { removeEventListener: () => throwing('removeEventListener') }),
  'with a reason that throws': (signal) =>
    Object.defineProperty(signal, 'reason', { get: () => throwing('reason') }),
};

function throwing(name: string): never {
  throw new Error(name);
}

for (const [which, spoil] of Object.entries(POOR_SIGNALS)) {
  test(`a transfer with a signal ${which} settles, and is aborted`, async (t) => {
    const { path } = sample(t, KiB);
    const running = new Polyfill();
    let listeners = 0;
    const add = running.signal.addEventListener.bind(running.signal);
    running.signal.addEventListener = (...args: Parameters<typeof add>) => {
      listeners += 1;
      add(...args);
    };
    const signal = running.signal as AbortSignal;
    spoil(signal);
    for (const _ of [1, 2]) {
      const sink = opened(t, `${directory(t)}/sink`, 'w');
      t.is((await within(20_000, 'a copy', copy(opened(t, path), sink, { signal }))).tx, KiB);
      t.is((await within(20_000, 'a file', sendFile(path, new PassThrough().resume(), { signal }))).tx, KiB);
    }
    if (which !== 'with a reason that throws') t.is(listeners, 1);
    const waiting = copy(new PassThrough(), new PassThrough(), { signal });
    running.abort();
    t.like(await failure(t, waiting), { name: 'AbortError', code: 'ABORT_ERR' });
  });
}

test('a signal that aborts while it adds the listener aborts the transfer', async (t) => {
  const running = new Polyfill();
  const add = running.signal.addEventListener.bind(running.signal);
  running.signal.addEventListener = (...args: Parameters<typeof add>) => {
    add(...args);
    running.abort();
  };
  const waiting = copy(new PassThrough(), new PassThrough(), { signal: running.signal as AbortSignal });
  t.like(await failure(t, waiting), { name: 'AbortError', code: 'ABORT_ERR' });
});

test('heads from another realm arrive', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer);
  const head = runInNewContext('Uint8Array.of(104, 101, 108, 108, 111)') as Uint8Array;
  t.false(head instanceof Uint8Array);
  const transfer = relay(a, b, { headFromA: head, headFromB: head });
  t.is(await peer.readText(origin, 5), 'hello');
  t.is(await peer.readText(client, 5), 'hello');
  await Promise.all([peer.shutdown(client), peer.shutdown(origin)]);
  t.like(await transfer, { tx: 5, rx: 5 });
});

test('a head of a copy from another realm arrives', async (t) => {
  const source = opened(t, sample(t, KiB).path);
  const head = runInNewContext('Uint8Array.of(1, 2)') as Uint8Array;
  t.is((await copy(source, opened(t, `${directory(t)}/sink`, 'w'), { head })).total, KiB + 2);
});

test('a file: URL of another class is opened, and an http: URL is refused', async (t) => {
  const { path } = sample(t, KiB);
  const destination = opened(t, `${directory(t)}/sink`, 'w');
  const url = new OtherUrl(pathToFileURL(path).href) as unknown as URL;
  t.false(url instanceof URL);
  t.is((await sendFile(url, destination)).total, KiB);
  const remote = new OtherUrl('http://127.0.0.1/') as unknown as URL;
  await t.throwsAsync(sendFile(remote, destination), { code: 'ERR_INVALID_ARG_VALUE' });
});

test('values that only resemble a signal, a URL or bytes are refused', async (t) => {
  const { path } = sample(t, KiB);
  const destination = opened(t, `${directory(t)}/sink`, 'w');
  const wrong = 'ERR_INVALID_ARG_TYPE';
  const signal = { aborted: false } as AbortSignal;
  await t.throwsAsync(sendFile(path, destination, { signal }), { code: wrong });
  const parsed = { href: pathToFileURL(path).href, protocol: 'file:', auth: null, path } as unknown as URL;
  await t.throwsAsync(sendFile(parsed, destination), { code: wrong });
  const head = new DataView(new ArrayBuffer(2)) as unknown as Uint8Array;
  await t.throwsAsync(copy(opened(t, path), destination, { head }), { code: wrong });
});

test('the package works in a realm of its own, where Symbol.dispose may be missing', async (t) => {
  const { path } = sample(t, KiB);
  const program = fileURLToPath(new URL('../helpers/processes/foreign-realm.mjs', import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [program, path]);
  const expected = { head: 'A', sent: KiB, copied: KiB, relay: 'ABORT_ERR', refused: 'ECONNREFUSED' };
  t.deepEqual(JSON.parse(stdout), expected);
});
