// A peer that copies files one after the other. Each line of input is a number of files; the answer follows their copies.
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { loadOurs } from './ours.mjs';

const { values: settings } = parseArgs({
  options: {
    from: { type: 'string' },
    to: { type: 'string' },
    with: { type: 'string' },
    package: { type: 'string' },
  },
});

const copiers = {
  async ours() {
    const { copy } = await loadOurs(settings.package);
    return copy;
  },
  copyFile: () => copyFile,
};

const copier = await copiers[settings.with]();
console.log('ready');
for await (const line of createInterface({ input: process.stdin })) {
  for (let index = 0; index < Number(line); index += 1) {
    await copier(join(settings.from, `${index}`), join(settings.to, `${index}`));
  }
  console.log('done');
}
