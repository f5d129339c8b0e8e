// The addon in debug mode, with debug assertions. It is kept under target/, apart from the release build at the root
// that `npm run build` makes.
import { copyFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { mustRun, root } from './run.mjs';

const built = join(root, 'target/debug/libfdsplice_node.so');
const addon = join(root, 'target/debug/fdsplice.node');

/** Builds the debug addon. Resolves with the environment variables that make a checkout load it. */
export async function debugAddon() {
  await mustRun('cargo', ['build', '--quiet', '-p', 'fdsplice-node']);
  // Node loads an addon only from a file with this extension. A process that uses the file keeps the old one.
  copyFileSync(built, `${addon}.new`);
  renameSync(`${addon}.new`, addon);
  return { FDSPLICE_ADDON: addon };
}
