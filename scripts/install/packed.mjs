// Packs the packages and checks the contents of the tarballs.
import { existsSync, readFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { dirname, join } from 'node:path';
import { root } from '../lib/run.mjs';
import { CLI } from '../lib/bundle-cli.mjs';
import { entries } from '../lib/entries.mjs';
import { licences } from './stage.mjs';
import { output } from './process.mjs';
import { assert, assertSame } from '../lib/suite.mjs';

/** The files that are not in dist/. */
const own = new Set([
  'package.json',
  'README.md',
  'CHANGELOG.md',
  'LICENSE-APACHE',
  'LICENSE-MIT',
  'THIRD-PARTY.md',
]);

/** Packs a folder into a tarball. Resolves with the tarball's path, its size and the names of its files. */
export async function pack(path, destination) {
  const args = ['pack', path, '--json', '--ignore-scripts', '--pack-destination', destination];
  const [{ filename, size, unpackedSize, files }] = JSON.parse(await output('npm', args, { cwd: root }));
  return {
    tarball: join(destination, filename),
    size: `${kib(size)} packed, ${kib(unpackedSize)} unpacked, ${files.length} files`,
    names: files.map((file) => file.path).sort(),
  };
}

const kib = (bytes) => `${(bytes / 1024).toFixed(0)} KiB`;

/** Checks that the package holds the modules with their maps and types, and the documents, and nothing else. */
export function checkOwnFiles(names) {
  const modules = entries().flatMap(({ name }) =>
    ['.cjs', '.cjs.map', '.js', '.d.cts', '.d.ts'].map((end) => name + end),
  );
  const commandLine = [`${CLI}.js`, `${CLI}.js.map`];
  const expected = [...modules, ...commandLine].map((name) => `dist/${name}`);
  // Only a module with a default export has this file.
  const found = names.filter((name) => !own.has(name) && !name.endsWith('.exports.d.cts'));
  assertSame(found.sort(), expected.sort(), 'files in the package');
  assertSame(names.filter((name) => own.has(name)).sort(), [...own].sort(), 'documents in the package');
}

export function checkPlatformFiles(names, platform) {
  const expected = ['README.md', 'package.json', `fdsplice.${platform}.node`, ...licences].sort();
  assertSame(names, expected, 'files in the package');
}

/** Checks in an installed package that every file which another file refers to is there. */
export function checkReferences(installed, names) {
  const has = (name, from) => assert(names.includes(name), `${from} refers to ${name}, which is not packed`);
  const manifest = JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8'));
  const { exports, main, types, typesVersions, bin } = manifest;
  for (const path of paths([exports, main, types, typesVersions, bin]))
    has(path.replace(/^\.\//, ''), 'package.json');
  for (const name of names.filter((each) => /\.(js|cjs|ts|cts)$/.test(each))) {
    const text = readFileSync(join(installed, name), 'utf8');
    for (const [, id] of text.matchAll(/^(?:import|export|let) .*(?:from |require\()['"](.+?)['"]/gm)) {
      if (!isBuiltin(id)) has(join(dirname(name), typesOf(name, id)), name);
    }
    if (name.endsWith('.cjs')) checkMap(installed, name, has);
  }
  checkMap(installed, `dist/${CLI}.js`, has);
}

const paths = (value) => (typeof value === 'string' ? [value] : Object.values(value).flatMap(paths));

/** The file that a file refers to: types refer to the types of a module. */
function typesOf(name, id) {
  return /\.d\.c?ts$/.test(name) ? id.replace(/\.(c?)js$/, '.d.$1ts') : id;
}

function checkMap(installed, name, has) {
  const [, map] = /^\/\/# sourceMappingURL=(.+)$/m.exec(readFileSync(join(installed, name), 'utf8')) ?? [];
  assert(map !== undefined, `${name} has no source map`);
  has(join(dirname(name), map), name);
  const { sources, sourcesContent = [] } = JSON.parse(
    readFileSync(join(installed, dirname(name), map), 'utf8'),
  );
  for (const [index, source] of sources.entries()) {
    const isThere = existsSync(join(installed, dirname(name), source));
    assert(isThere || typeof sourcesContent[index] === 'string', `${map}: ${source} is missing`);
  }
}
