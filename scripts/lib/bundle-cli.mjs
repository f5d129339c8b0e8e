// The command line as one file, dist/lib/cli/main.js. It contains the npm packages that only the command line uses, so
// that installing fdsplice installs no other package for its API.
import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import { withBundle } from './bundle.mjs';
import { root } from './run.mjs';

/** The bundled command line, relative to dist/ and, with the extension .ts, to the root. */
export const CLI = 'lib/cli/main';

const output = { format: 'esm', codeSplitting: false };

/** Writes the bundle with its source map, and returns the names of both, relative to dist/. */
export async function bundleCli() {
  const file = join(root, `dist/${CLI}.js`);
  await inBundle((bundle) => bundle.write({ ...output, file, sourcemap: true }));
  chmodSync(file, 0o755);
  return [`${CLI}.js`, `${CLI}.js.map`];
}

/** The folders of the npm packages whose code is in the bundle. */
export async function bundledPackages() {
  const { output: chunks } = await inBundle((bundle) => bundle.generate(output));
  const folders = chunks
    .flatMap(({ moduleIds = [] }) => moduleIds)
    .map((id) => /^(?:\0[^/]*)?(.*\/node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(id)?.[1])
    .filter((folder) => folder !== undefined);
  return [...new Set(folders)].sort();
}

const inBundle = (use) => withBundle({ source: `${CLI}.ts`, name: CLI, extension: '.js' }, use);
