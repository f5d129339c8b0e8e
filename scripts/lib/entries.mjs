// The modules that users can import: the package itself, and one for each adapter.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { root } from './run.mjs';
import { assertSame } from './suite.mjs';

/**
 * Every module with its subpath in `exports`, its source relative to the root, and the name of its output relative to
 * dist/, without extension.
 */
export function entries() {
  return [{ subpath: '.', source: 'index.ts', name: 'index' }, ...adapters()];
}

function adapters() {
  const folder = join(root, 'lib/adapters');
  const files = existsSync(folder) ? readdirSync(folder).sort() : [];
  return files
    .filter((file) => file.endsWith('.ts'))
    .map((file) => file.slice(0, -'.ts'.length))
    .map((name) => ({ subpath: `./${name}`, source: `lib/adapters/${name}.ts`, name: `adapters/${name}` }));
}

/**
 * The path from an output, given by its name, to the module that a file imports: `undefined` if the import is of another
 * file. `base` is the folder of the sources, or of their declarations.
 */
export function pathToModule(output, id, importer, base = root) {
  if (importer === undefined || !id.startsWith('.')) return undefined;
  return pathToFile(output, resolve(dirname(importer), id), base);
}

/** The same for an absolute path. */
export function pathToFile(output, file, base = root) {
  const source = relative(base, file).replace(/(\.d)?\.[jt]s$/, '.ts');
  const entry = entries().find((each) => each.source === source);
  if (entry === undefined) return undefined;
  const path = relative(dirname(output), entry.name);
  return path.startsWith('.') ? path : `./${path}`;
}

/** What package.json says about a module. The ES module and the CommonJS module have types of their own. */
const exported = (name) => ({
  import: { types: `./dist/${name}.d.ts`, default: `./dist/${name}.js` },
  require: { types: `./dist/${name}.d.cts`, default: `./dist/${name}.cjs` },
  default: `./dist/${name}.cjs`,
});

/** Fails unless package.json exports exactly these modules. */
export function checkExports() {
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const modules = Object.fromEntries(entries().map(({ subpath, name }) => [subpath, exported(name)]));
  // TypeScript's oldest way to find modules does not read `exports`.
  const paths = adapters().map(({ name, subpath }) => [subpath.slice('./'.length), [`./dist/${name}.d.cts`]]);
  assertSame(manifest.exports, { ...modules, './package.json': './package.json' }, 'exports in package.json');
  assertSame(manifest.typesVersions, { '*': Object.fromEntries(paths) }, 'typesVersions in package.json');
}
