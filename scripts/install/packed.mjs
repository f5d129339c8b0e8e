// Packs the packages and checks the contents of the tarballs.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { dirname, join } from 'node:path';
import { root } from '../lib/run.mjs';
import { CLI } from '../lib/bundle-cli.mjs';
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
  'index.d.ts',
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

/** Checks that the package holds the compiled modules with their maps, the types and the documents, and nothing else. */
export function checkOwnFiles(names) {
  const modules = names.filter((name) => name.startsWith('dist/') && name.endsWith('.js'));
  const expected = modules.flatMap((name) => [name, `${name}.map`]);
  assertSame(names.filter((name) => !own.has(name)).sort(), expected.sort(), 'files in the package');
  assertSame(names.filter((name) => own.has(name)).sort(), [...own].sort(), 'documents in the package');
  // The command line is one bundle.
  const sources = typescript('lib').filter((name) => dirname(name) !== dirname(CLI) || name === `${CLI}.ts`);
  const compiled = ['index.ts', ...sources].map((name) => `dist/${name.replace(/\.ts$/, '.js')}`);
  assertSame(modules.sort(), compiled.sort(), 'compiled modules (remove dist/ if one is left over)');
}

function typescript(folder) {
  return readdirSync(join(root, folder), { recursive: true })
    .filter((name) => name.endsWith('.ts') && !name.endsWith('.d.ts'))
    .map((name) => `${folder}/${name}`);
}

export function checkPlatformFiles(names, platform) {
  const expected = ['README.md', 'package.json', `fdsplice.${platform}.node`, ...licences].sort();
  assertSame(names, expected, 'files in the package');
}

/** Checks in an installed package that every file which another file refers to is there. */
export function checkReferences(installed, names) {
  const has = (name, from) => assert(names.includes(name), `${from} refers to ${name}, which is not packed`);
  const manifest = JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8'));
  const paths = (value) => (typeof value === 'string' ? [value] : Object.values(value).flatMap(paths));
  for (const path of paths([manifest.exports, manifest.types, manifest.bin])) {
    has(path.replace(/^\.\//, ''), 'package.json');
  }
  const types = readFileSync(join(installed, 'index.d.ts'), 'utf8');
  for (const [, id] of types.matchAll(/from '(.+?)'/g)) assert(isBuiltin(id), `index.d.ts imports ${id}`);

  for (const name of names.filter((each) => each.endsWith('.js'))) {
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
}
