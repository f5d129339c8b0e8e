// Bundles made with rolldown.
import { isBuiltin } from 'node:module';
import { join } from 'node:path';
import { rolldown } from 'rolldown';
import { pathToModule } from './entries.mjs';
import { root, StepError } from './run.mjs';

/**
 * Bundles a source, given relative to the root, for Node. `name` is that of the output, relative to dist/ and without its
 * `extension`.
 */
export async function withBundle({ source, name, extension, plugins = [] }, use) {
  const bundle = await rolldown({
    input: join(root, source),
    platform: 'node',
    external: (id) => isBuiltin(id),
    plugins: [keepModules(name, extension), ...plugins],
    // An unresolved import or a circle would otherwise be found by users.
    onLog(_level, log) {
      throw new StepError(`bundling ${source}: ${log.message}`);
    },
  });
  try {
    return await use(bundle);
  } finally {
    await bundle.close();
  }
}

/** Leaves the imports of the package's own modules in place: a second copy would have classes and state of its own. */
const keepModules = (name, extension) => ({
  name: 'modules',
  resolveId(id, importer) {
    const path = pathToModule(name, id, importer);
    return path === undefined ? null : { id: path + extension, external: true };
  },
});
