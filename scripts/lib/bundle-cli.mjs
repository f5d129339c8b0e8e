// The command line as one file, dist/lib/cli/main.js. It contains the npm packages that only the command line uses, so
// that installing fdsplice installs no other package for its API.
import { chmodSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { join } from 'node:path';
import { rolldown } from 'rolldown';
import { root, StepError } from './run.mjs';

/** The bundled command line, relative to dist/ and, with the extension .ts, to the root. */
export const CLI = 'lib/cli/main';
/** The public surface, as every file of the command line imports it. */
const PUBLIC = '../../index.js';

/** Writes the bundle with its source map. */
export async function bundleCli() {
  const file = join(root, `dist/${CLI}.js`);
  await withBundle((bundle) => bundle.write({ ...output, file, sourcemap: true }));
  chmodSync(file, 0o755);
}

/** The folders of the npm packages whose code is in the bundle. */
export async function bundledPackages() {
  const { output: chunks } = await withBundle((bundle) => bundle.generate(output));
  const folders = chunks
    .flatMap(({ moduleIds = [] }) => moduleIds)
    .map((id) => /^(?:\0[^/]*)?(.*\/node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(id)?.[1])
    .filter((folder) => folder !== undefined);
  return [...new Set(folders)].sort();
}

const output = { format: 'esm', codeSplitting: false };

async function withBundle(use) {
  const bundle = await rolldown({
    input: join(root, `${CLI}.ts`),
    platform: 'node',
    external: (id) => isBuiltin(id),
    plugins: [keepPublicSurface],
    // An unresolved import or a circle would otherwise be found by users.
    onLog(_level, log) {
      throw new StepError(`bundling ${CLI}: ${log.message}`);
    },
  });
  try {
    return await use(bundle);
  } finally {
    await bundle.close();
  }
}

/** Leaves the import of the public surface in place: a second copy would load the addon twice. */
const keepPublicSurface = {
  name: 'public-surface',
  resolveId(id) {
    return id === PUBLIC ? { id: PUBLIC, external: true } : null;
  },
};
