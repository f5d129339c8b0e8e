// Bundles made with rolldown.
import { isBuiltin } from 'node:module';
import { join } from 'node:path';
import { rolldown } from 'rolldown';
import { root, StepError } from './run.mjs';

/** The public surface, as the files of the command line and the adapters import it. */
const PUBLIC = '../../index.js';

/**
 * Bundles a file of this checkout, given relative to its root, for Node. `surface` is the file that the bundle imports as
 * the public surface: a second copy of it inside the bundle would have classes and state of its own.
 */
export async function withBundle(file, { surface, plugins = [] }, use) {
  const bundle = await rolldown({
    input: join(root, file),
    platform: 'node',
    external: (id) => isBuiltin(id),
    plugins: [keepPublicSurface(surface), ...plugins],
    // An unresolved import or a circle would otherwise be found by users.
    onLog(_level, log) {
      throw new StepError(`bundling ${file}: ${log.message}`);
    },
  });
  try {
    return await use(bundle);
  } finally {
    await bundle.close();
  }
}

const keepPublicSurface = (surface) => ({
  name: 'public-surface',
  resolveId: (id) => (id === PUBLIC && surface !== undefined ? { id: surface, external: true } : null),
});
