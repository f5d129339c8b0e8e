// npm run build:ts: checks the types of lib/, and writes the package's modules with their types and the command line into
// dist/, and the types of the public surface into index.d.ts.
import { existsSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { bundleCli } from './lib/bundle-cli.mjs';
import { bundleLibrary } from './lib/bundle-library.mjs';
import { bundleTypes } from './lib/bundle-types.mjs';
import { root, runMain } from './lib/run.mjs';

await runMain(async () => {
  const written = [await bundleTypes(), await bundleLibrary(), await bundleCli()];
  removeOthers(new Set(written.flat()));
});

/** Removes output that no source produces any more: it would be published. */
function removeOthers(written) {
  const dist = join(root, 'dist');
  if (!existsSync(dist)) return;
  for (const name of readdirSync(dist, { recursive: true })) {
    const path = join(dist, name);
    if (!written.has(name) && !statSync(path).isDirectory()) rmSync(path);
  }
}
