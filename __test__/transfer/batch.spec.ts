// Transfers whose outcomes arrive in one batch: what one of them causes does not keep the others from being settled.
import { pathToFileURL } from 'node:url';

import type { ExecutionContext } from 'ava';

import { ended, nodeArguments, started } from '../helpers/copy-child.js';
import { nativeTest } from '../helpers/engine.js';

/** Starts three copies and blocks the event loop until all have ended, so that their outcomes arrive together. */
const TOGETHER = `
  import { openSync } from 'node:fs';
  import { copy } from 'fdsplice';
  const nothing = openSync('/dev/null', 'r+');
  await copy(nothing, nothing);
  const print = (...values) => console.log(values.join(' '));
  process.on('uncaughtException', (error) => print('uncaught', error.message));
  process.on('unhandledRejection', (error) => print('unhandled', error.message));
  const block = () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500);
`;

/** Options of Node that load the sources of the package, without a warning that Node 20 has for JSON. */
const SOURCES = ['--no-warnings', '--import=@oxc-node/core/register'];

async function output(t: ExecutionContext, program: string): Promise<string[]> {
  const child = started(
    t,
    process.execPath,
    [...SOURCES, ...nodeArguments(TOGETHER + program)],
    ['ignore', 'pipe', 'pipe'],
  );
  const { code, stdout, stderr } = await ended(child);
  t.deepEqual([code, stderr], [0, '']);
  return stdout.toString().trim().split('\n');
}

nativeTest(
  'a then handler that throws does not keep transfers of the same batch from being settled',
  async (t) => {
    const lines = await output(
      t,
      `for (const name of ['first', 'second', 'third'])
      copy(nothing, nothing).then(() => {
        print(name);
        if (name === 'first') throw new Error('of ' + name);
      });
    block();`,
    );
    t.deepEqual(lines.sort(), ['first', 'second', 'third', 'unhandled of first']);
  },
);

nativeTest('an onProgress that throws fails its transfer, and not those of the same batch', async (t) => {
  const lines = await output(
    t,
    `for (const name of ['first', 'second', 'third']) {
      const onProgress = () => { if (name === 'first') throw new Error('of ' + name); };
      copy(nothing, nothing, { onProgress }).then(() => print(name), (error) => print(name, error.cause.message));
    }
    block();`,
  );
  t.deepEqual(lines.sort(), ['first of first', 'second', 'third']);
});

nativeTest('a fault while one outcome is processed is an uncaught exception after the batch', async (t) => {
  // The package does not export this function, so it comes from the sources.
  const core = pathToFileURL('lib/core/core.ts').href;
  const lines = await output(
    t,
    `const { openEnd, startNative } = await import('${core}');
    const open = (side) => openEnd(nothing, side).end;
    for (const name of ['first', 'second', 'third'])
      startNative(
        (dispatcher, id) => dispatcher.copy(id, open('source'), open('destination'), { endDestination: false }, { zeroCopy: true }),
        () => {
          print(name);
          if (name === 'first') throw new Error('of ' + name);
        },
      );
    block();`,
  );
  t.deepEqual(lines.slice().sort(), ['first', 'second', 'third', 'uncaught of first']);
  t.is(lines.at(-1), 'uncaught of first');
});
