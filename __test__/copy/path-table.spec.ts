// Copies between paths as a table that both engines run: every combination of sources, destinations and options against a
// model of it, and failures against those of fs.copyFile.
import {
  copyFileSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';
import { copy, type CopyOptions, stats } from 'fdsplice';

import { directory, KiB, MiB, opened, sample } from '../helpers/copy-files.js';
import { engine } from '../helpers/engine.js';
import { nothingIsLeft } from '../helpers/left.js';

nothingIsLeft(test, 'behind each test');

const SIZES = [0, 1, 5000, 64 * KiB, 64 * KiB + 1, MiB, MiB + 1];
const HEAD = Buffer.from('head');

/** The options that matter to a source of `size` bytes. */
function optionsFor(size: number): CopyOptions[] {
  const starts = [undefined, 0, 7, size, size + 9, Number.MAX_SAFE_INTEGER];
  const lengths = [undefined, 0, 3, size, size + 1, Number.MAX_SAFE_INTEGER];
  const positions = [undefined, 0, 11, 2 * MiB];
  const options: CopyOptions[] = [];
  for (const start of starts) for (const length of lengths) options.push({ start, length });
  for (const position of positions) {
    for (const head of [undefined, HEAD]) options.push({ position, head, start: 2, zeroCopy: false });
    options.push({ position, length: 70 * KiB, rateLimit: 2 ** 40 }, { position, pipeSize: 4 * KiB });
  }
  return options;
}

/** What a copy writes, and what is then in its destination. */
function model(
  source: Buffer,
  before: Buffer,
  { start = 0, length = Infinity, position, head }: CopyOptions,
) {
  const body = source.subarray(Math.min(start, source.length), Math.min(start + length, source.length));
  const written = Buffer.concat([head ?? Buffer.alloc(0), body]);
  if (position === undefined) return { written, after: written };
  const after = Buffer.alloc(Math.max(before.length, written.length === 0 ? 0 : position + written.length));
  before.copy(after);
  written.copy(after, position);
  return { written, after };
}

for (const size of SIZES) {
  test.serial(`each option does to ${size} bytes what its model does`, async (t) => {
    const { path, bytes } = sample(t, size);
    const to = join(directory(t), 'copy');
    for (const options of optionsFor(size)) {
      for (const before of [Buffer.from('a few bytes'), Buffer.alloc(MiB + 100, 'b')]) {
        const { written, after } = model(bytes, before, options);
        writeFileSync(to, before);
        const counted = stats();
        const result = await copy(path, to, options);
        const found = readFileSync(to);
        const what = JSON.stringify({ ...options, before: before.length });
        if (!found.equals(after)) t.fail(`${found.length} bytes instead of ${after.length}: ${what}`);
        t.deepEqual([result.tx, result.engine, result.error], [written.length, engine, null], what);
        t.deepEqual(
          [stats().tx - counted.tx, stats().completed - counted.completed, stats().active],
          [written.length, 1, 0],
          what,
        );
      }
    }
  });
}

/** Files of a folder with their contents. */
function contents(folder: string): Record<string, string> {
  const files = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isFile());
  return Object.fromEntries(files.map(({ name }) => [name, readFileSync(join(folder, name), 'latin1')]));
}

/** A folder with a source, an older file, links to both, a link to nothing and a folder. */
function arrange(t: ExecutionContext): string {
  const folder = directory(t);
  const inside = (name: string) => join(folder, name);
  writeFileSync(inside('source'), 'the source');
  writeFileSync(inside('older'), 'an older and longer file');
  linkSync(inside('source'), inside('hard'));
  symlinkSync('source', inside('soft'));
  symlinkSync('new', inside('dangling'));
  symlinkSync('loop', inside('loop'));
  mkdirSync(inside('folder'));
  return folder;
}

const SOURCES = [
  'source',
  'soft',
  'hard',
  'folder/../source',
  'none',
  'dangling',
  'loop',
  'none/source',
  'source/',
];
const DESTINATIONS = [
  'older',
  'new',
  'dangling',
  'none/new',
  'older/x',
  'folder',
  'loop',
  '',
  'x'.repeat(300),
];

for (const from of SOURCES) {
  test.serial(`${from} is copied, or fails, as by fs.copyFile`, async (t) => {
    for (const to of DESTINATIONS) {
      const [ours, theirs] = [arrange(t), arrange(t)];
      let expected: string | undefined;
      try {
        copyFileSync(join(theirs, from), to === '' ? '' : join(theirs, to));
      } catch (error) {
        expected = (error as NodeJS.ErrnoException).code;
      }
      const { error } = await copy(join(ours, from), to === '' ? '' : join(ours, to), { reject: false });
      t.deepEqual([error?.code, error?.errno !== undefined], [expected, expected !== undefined], `to ${to}`);
      t.deepEqual(contents(ours), contents(theirs), `to ${to}`);
    }
  });
}

test.serial('a file is never copied onto itself, by whatever name, and stays as it was', async (t) => {
  const folder = arrange(t);
  const before = contents(folder);
  const fd = opened(t, join(folder, 'source'));
  const names = ['source', 'hard', 'soft', './source', 'folder/../soft'].map((name) => `${folder}/${name}`);
  for (const from of [...names, fd]) {
    for (const to of [...names, `/proc/self/fd/${fd}`, `/dev/fd/${fd}`]) {
      for (const options of [
        {},
        { head: HEAD },
        { start: 3, length: 2 },
        { length: 0 },
        { zeroCopy: false },
      ]) {
        const error = await t.throwsAsync(copy(from, to, { ...options, reject: false }));
        t.is((error as NodeJS.ErrnoException).code, 'ERR_INVALID_ARG_VALUE', `${from} to ${to}`);
      }
    }
  }
  t.deepEqual(contents(folder), before);
});
