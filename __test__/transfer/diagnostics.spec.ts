// The diagnostics channel `fdsplice`: the messages that each transfer publishes, their order and their async context.
import { AsyncLocalStorage } from 'node:async_hooks';
import { channel, tracingChannel } from 'node:diagnostics_channel';

import test, { type ExecutionContext } from 'ava';
import { copy, relay, sendFile, TransferError, type TrafficResult } from 'fdsplice';

import { engine } from '../helpers/engine.js';
import { directory, opened, sample, sink } from '../helpers/copy-files.js';
import { failure } from '../helpers/failure.js';
import { pair } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';
import { until } from '../helpers/wait.js';

interface Message {
  kind: string;
  result?: TrafficResult;
  error?: Error;
}

interface Event {
  name: string;
  message: Message;
  /** A copy of the message at the time of the event. */
  copy: Message;
}

const NAMES = ['start', 'end', 'asyncStart', 'asyncEnd', 'error'] as const;
const transfers = tracingChannel<Message, Message>('fdsplice');

/** Collects all events until the test ends. The channel is shared by the process, so these tests are serial. */
function listen(t: ExecutionContext): Event[] {
  const events: Event[] = [];
  const note = (name: string) => (message: Message) =>
    void events.push({ name, message, copy: { ...message } });
  const subscribers = {
    start: note('start'),
    end: note('end'),
    asyncStart: note('asyncStart'),
    asyncEnd: note('asyncEnd'),
    error: note('error'),
  };
  transfers.subscribe(subscribers);
  t.teardown(() => void transfers.unsubscribe(subscribers));
  return events;
}

const names = (events: Event[]) => events.map(({ name }) => name);

test.serial('a successful relay publishes start and asyncEnd', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer);
  const events = listen(t);
  const transfer = relay(a, b);
  t.deepEqual(names(events), ['start']);
  t.deepEqual(events[0]?.copy, { kind: 'relay' });
  await peer.writeText(client, 'hello');
  await Promise.all([peer.shutdown(client), peer.shutdown(origin)]);
  let before = -1;
  void transfer.then(() => (before = events.length));
  const result = await transfer;
  t.is(before, 2);
  t.deepEqual(names(events), ['start', 'asyncEnd']);
  t.is(events[1]?.message, events[0]?.message);
  t.deepEqual(events[1]?.copy, { kind: 'relay', result });
  t.like(result, { tx: 5, rx: 0, error: null });
});

test.serial('each verb publishes its kind', async (t) => {
  const { path } = sample(t, 1000);
  const into = sink(t);
  const peer = Peer.start(t);
  const { b } = await pair(t, peer);
  const events = listen(t);
  const results = [await copy(opened(t, path), into), await sendFile(path, b)];
  t.deepEqual(
    events.map(({ name, copy }) => [name, copy.kind]),
    [
      ['start', 'copy'],
      ['asyncEnd', 'copy'],
      ['start', 'sendFile'],
      ['asyncEnd', 'sendFile'],
    ],
  );
  t.is(events[1]?.message.result?.tx, 1000);
  t.deepEqual(events[3]?.copy.result, results[1]);
});

for (const reject of [true, false]) {
  test.serial(`a failure publishes its error and its counts, reject: ${reject}`, async (t) => {
    const peer = Peer.start(t);
    const { a, b, client, origin } = await pair(t, peer);
    const events = listen(t);
    const transfer = relay(a, b, { reject });
    await peer.writeText(client, 'hello');
    await peer.readText(origin, 5);
    await peer.reset(origin);
    const error = reject ? await failure(t, transfer) : (await transfer).error;
    t.deepEqual(names(events), ['start', 'error', 'asyncEnd']);
    for (const { message, copy } of events.slice(1)) {
      t.is<unknown, unknown>(message, events[0]?.message);
      t.is<unknown, unknown>(copy.error, error);
      t.like(copy.result, { tx: 5, rx: 0, total: 5, engine });
      t.is(copy.result?.error, error);
    }
    t.like(error, { code: 'ECONNRESET', side: 'b' });
  });
}

for (const when of ['before the start', 'while it runs'] as const) {
  test.serial(`an abort ${when} publishes an error`, async (t) => {
    const peer = Peer.start(t);
    const { a, b } = await pair(t, peer);
    const events = listen(t);
    const controller = new AbortController();
    if (when === 'before the start') controller.abort('a reason');
    const transfer = relay(a, b, { signal: controller.signal });
    controller.abort('a reason');
    const error = await failure(t, transfer);
    t.deepEqual(names(events), ['start', 'error', 'asyncEnd']);
    t.is(events[1]?.copy.error, error);
    t.like(error, { code: 'ABORT_ERR', cause: 'a reason' });
  });
}

test.serial('a missing file publishes an error', async (t) => {
  const events = listen(t);
  const error = await failure(t, sendFile('/nowhere/at/all', sink(t)));
  t.deepEqual(names(events), ['start', 'error', 'asyncEnd']);
  t.is(events[2]?.copy.error, error);
  t.like(error, { code: 'ENOENT', side: 'source' });
});

test.serial('a wrong argument found after the start publishes an error without a result', async (t) => {
  const events = listen(t);
  const transfer = sendFile(directory(t), sink(t), { reject: false });
  const error = await t.throwsAsync(transfer, { instanceOf: TypeError });
  t.false(error instanceof TransferError);
  t.deepEqual(names(events), ['start', 'error', 'asyncEnd']);
  t.is(events[1]?.copy.error, error);
  t.false('result' in (events[2]?.copy ?? {}));
});

test.serial('every start is followed by an asyncEnd and an error if the arguments are wrong', async (t) => {
  const events = listen(t);
  const attempts = [
    relay(0, 0),
    copy(-1, 1),
    sendFile('.', -1),
    relay(0, 1, { idleTimeout: -1 }),
    sendFile('.', sink(t), { start: 2, end: 1 }),
  ];
  for (const attempt of attempts) await t.throwsAsync(attempt);
  const count = (name: string) => events.filter((event) => event.name === name).length;
  t.is(count('start'), count('asyncEnd'));
  t.is(count('start'), count('error'));
});

test.serial(
  'each event is published in the async context of its transfer, even if another context ends it',
  async (t) => {
    const peer = Peer.start(t);
    const storage = new AsyncLocalStorage<number>();
    const seen = new Map<Message, (number | undefined)[]>();
    const note = (message: Message) =>
      void seen.set(message, [...(seen.get(message) ?? []), storage.getStore()]);
    const subscribers = { start: note, asyncEnd: note, error: note };
    transfers.subscribe(subscribers as Parameters<typeof transfers.subscribe>[0]);
    t.teardown(() => void transfers.unsubscribe(subscribers as Parameters<typeof transfers.subscribe>[0]));
    const { path } = sample(t, 10);
    const running = [1, 2, 3].map((id) =>
      storage.run(id, async () => {
        const { a, b, client, origin } = await pair(t, peer);
        await Promise.allSettled([sendFile(path, b), sendFile('/nowhere/at/all', a)]);
        const transfer = relay(a, b, { reject: false });
        await storage.run(-1, () => (id === 1 ? peer.shutdown(client) : peer.reset(client)));
        if (id === 1) await storage.run(-1, () => peer.shutdown(origin));
        await transfer;
      }),
    );
    await Promise.all(running);
    t.is(seen.size, 9);
    for (const stores of seen.values()) t.is(new Set(stores).size, 1, stores.join());
    // The order in which the transfers end is not defined.
    t.deepEqual([...new Set([...seen.values()].flat())].sort(), [1, 2, 3]);
  },
);

test.serial('each of many concurrent transfers has a message object of its own', async (t) => {
  const { path } = sample(t, 10);
  const into = sink(t);
  const events = listen(t);
  const lengths = Array.from({ length: 50 }, (_, index) => index % 11);
  const fd = opened(t, path);
  await Promise.all(lengths.map((length) => copy(fd, into, { start: 0, length })));
  const messages = new Map<Message, string[]>();
  for (const { name, message } of events) messages.set(message, [...(messages.get(message) ?? []), name]);
  t.is(messages.size, lengths.length);
  for (const order of messages.values()) t.deepEqual(order, ['start', 'asyncEnd']);
  const sent = [...messages.keys()].map(({ result }) => result?.tx);
  t.deepEqual(sent.sort(), lengths.sort());
});

for (const only of ['start', 'asyncEnd', 'error'] as const) {
  test.serial(`a subscriber of ${only} alone receives it`, async (t) => {
    const seen: Message[] = [];
    const note = (message: unknown) => void seen.push(message as Message);
    const one = channel(`tracing:fdsplice:${only}`);
    one.subscribe(note);
    t.teardown(() => void one.unsubscribe(note));
    await failure(t, sendFile('/nowhere/at/all', sink(t)));
    t.is(seen.length, 1);
    t.is(seen[0]?.kind, 'sendFile');
  });
}

test.serial('nothing is published without a subscriber', async (t) => {
  const { path } = sample(t, 10);
  const into = sink(t);
  const published: string[] = [];
  for (const name of NAMES) {
    const one = channel(`tracing:fdsplice:${name}`);
    t.false(one.hasSubscribers);
    one.publish = () => void published.push(name);
    t.teardown(() => Reflect.deleteProperty(one, 'publish'));
  }
  await copy(opened(t, path), into);
  await failure(t, sendFile('/nowhere/at/all', into));
  t.deepEqual(published, []);

  // The counter-check: with a subscriber, the same replacement sees the events.
  const note = () => {};
  transfers.start.subscribe(note);
  t.teardown(() => void transfers.start.unsubscribe(note));
  await copy(opened(t, path), into);
  t.true(published.includes('start'));
});

test.serial('a subscriber receives nothing after it has unsubscribed', async (t) => {
  const { path } = sample(t, 10);
  const into = sink(t);
  let calls = 0;
  const subscriber = () => void (calls += 1);
  transfers.start.subscribe(subscriber);
  await copy(opened(t, path), into);
  t.is(calls, 1);
  transfers.start.unsubscribe(subscriber);
  await copy(opened(t, path), into);
  t.is(calls, 1);
});

test.serial('a subscription during a transfer does not disturb it', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer);
  const transfer = relay(a, b);
  const events = listen(t);
  await peer.writeText(client, 'hello');
  await peer.readText(origin, 5);
  await Promise.all([peer.shutdown(client), peer.shutdown(origin)]);
  t.like(await transfer, { tx: 5, error: null });
  await until('both sockets are closed', () => a.closed && b.closed, Boolean);
  // The subscriber may or may not receive the end, but it receives no start.
  t.false(names(events).includes('start'));
});
