// npm run pack:release -- <folder>: writes the tarballs that a release publishes, and their checksums.
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { pack } from './install/packed.mjs';
import { stage } from './install/stage.mjs';
import { root, runMain, StepError } from './lib/run.mjs';
import { targets } from './lib/targets.mjs';

await runMain(async () => {
  const [folder] = process.argv.slice(2);
  if (folder === undefined) throw new StepError('where to? npm run pack:release -- <folder>');
  const destination = resolve(folder);
  mkdirSync(destination, { recursive: true });
  const scratch = mkdtempSync(join(tmpdir(), 'fdsplice-pack-'));
  try {
    const staged = stage(scratch, { fresh: false });
    const missing = targets.filter(({ platform }) => !staged.some((each) => each.platform === platform));
    if (missing.length > 0) {
      throw new StepError(
        `not built: ${missing.map(({ triple }) => triple).join(', ')} (npm run build:target)`,
      );
    }
    const sums = [];
    for (const path of [root, ...staged.map((each) => each.path)]) {
      const { tarball, size } = await pack(path, destination);
      const sum = createHash('sha256').update(readFileSync(tarball)).digest('hex');
      sums.push(`${sum}  ${basename(tarball)}\n`);
      console.log(`${basename(tarball)}: ${size}`);
    }
    writeFileSync(join(destination, 'SHA256SUMS'), sums.join(''));
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
});
