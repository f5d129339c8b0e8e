// Descriptors after transfers with every kind of ending: none is leaked, and the file of a path is closed by the time its
// transfer has settled.
import { closeSync, ftruncateSync, openSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { copy, sendFile, stats, type TrafficResult } from 'fdsplice';

import { directory, opened, sample } from '../helpers/copy-files.js';
import { descriptorKinds } from '../helpers/descriptors.js';
import { coreTest as test } from '../helpers/engine.js';
import { pair } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';
import { until, within } from '../helpers/wait.js';

/** Open descriptors by kind, without the idle pipes of the pool. */
function held(): Record<string, number> {
  const kinds = descriptorKinds();
  const { leased, idle } = stats().pipes;
  kinds.set('pipe', (kinds.get('pipe') ?? 0) - 2 * (leased + idle));
  return Object.fromEntries([...kinds].sort());
}

test.serial('10,000 copies with every kind of ending leave no descriptor', async (t) => {
  t.timeout(240_000);
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer);
  const { path, bytes } = sample(t, 70_000);
  const into = join(directory(t), 'into');
  const [source, destination, full, nothing] = [
    opened(t, path),
    opened(t, into, 'w+'),
    opened(t, '/dev/full', 'w'),
    opened(t, '/dev/null', 'r+'),
  ];
  const never = AbortSignal.abort();
  const endings: Record<string, [code: string | null, run: () => Promise<TrafficResult>]> = {
    'file to file': [null, () => copy(source, destination, { start: 0, position: 0, reject: false })],
    'file to file through a buffer': [
      null,
      () => copy(source, destination, { start: 0, position: 0, zeroCopy: false, reject: false }),
    ],
    'file to /dev/null': [null, () => copy(source, nothing, { start: 0, reject: false })],
    '/dev/null to file': [null, () => copy(nothing, destination, { reject: false })],
    'file to a full device': ['ENOSPC', () => copy(source, full, { start: 0, reject: false })],
    'path to /dev/null': [null, () => sendFile(path, nothing, { reject: false })],
    'a missing path': ['ENOENT', () => sendFile(`${path}!`, nothing, { reject: false })],
    'aborted before': ['ABORT_ERR', () => sendFile(path, nothing, { signal: never, reject: false })],
    'aborted at once': [
      'ABORT_ERR',
      () => {
        const transfer = sendFile(path, nothing, { reject: false });
        transfer.abort();
        return transfer;
      },
    ],
    'a FileHandle': [
      null,
      async () => {
        const handle = await open(path);
        const result = await sendFile(handle, nothing, { start: 5, reject: false });
        await handle.close();
        return result;
      },
    ],
    'rejected calls, then a copy': [
      null,
      async () => {
        await Promise.allSettled([
          copy(source, 2 ** 30),
          sendFile(path, 2 ** 30),
          sendFile('/', nothing),
          copy(source, nothing, { position: 1 }),
          copy(source, source, { start: 0 }),
        ]);
        return copy(source, nothing, { start: 0, reject: false });
      },
    ],
    'file to socket and back to a file': [
      null,
      async () => {
        const sending = copy(source, b, { start: 0, reject: false });
        await peer.read(origin, bytes.length);
        return sending;
      },
    ],
    'socket to file': [
      null,
      async () => {
        const receiving = copy(a, destination, { length: 1000, position: 0, reject: false });
        await peer.write(client, 1000, 1);
        return receiving;
      },
    ],
  };

  async function wave(): Promise<void> {
    await Promise.all(
      Object.entries(endings).map(async ([name, [code, run]]) => {
        const { error } = await within(60_000, name, run());
        if (code !== (error?.code ?? null)) t.fail(`${name}: ${String(error)}`);
      }),
    );
  }

  // The first waves start the threads, whose descriptors stay.
  for (let round = 0; round < 5; round += 1) await wave();
  let before: Record<string, number>;
  do {
    before = held();
    await sleep(500);
  } while (stats().active > 0 || JSON.stringify(held()) !== JSON.stringify(before));
  for (let round = 0; round < 10_000 / Object.keys(endings).length; round += 1) await wave();
  ftruncateSync(destination, 0);
  const expected = JSON.stringify(before);
  const same = (now: Record<string, number>) => JSON.stringify(now) === expected;
  t.deepEqual(await until(`the same descriptors are open as before: ${expected}`, held, same), before);
  t.is(stats().pipes.leased, 0);
});

test.serial('the descriptor of a path is closed when its transfer has settled', async (t) => {
  const { path } = sample(t, 100);
  const nothing = openSync('/dev/null', 'w');
  const held = () => descriptorKinds().get(path) ?? 0;
  let late = 0;
  for (let round = 0; round < 200; round += 1) {
    await sendFile(path, nothing);
    late += held();
    const transfer = sendFile(path, nothing, { reject: false });
    await new Promise(setImmediate);
    transfer.abort();
    await transfer;
    late += held();
  }
  t.is(late, 0, 'open after the promise had settled');
  t.is(await until('all are closed', held, (count) => count === 0), 0);
  closeSync(nothing);
});
