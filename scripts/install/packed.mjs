import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { dirname, join } from 'node:path';
import { root } from '../lib/run.mjs';
import { licences } from './stage.mjs';
import { output } from './process.mjs';
import { assert, assertSame } from '../lib/suite.mjs';

const own = new Set([
  'package.json',
  'README.md',
  'CHANGELOG.md',
  'LICENSE-APACHE',
  'LICENSE-MIT',
  'index.d.ts',
]);

/** Packs a folder into a tarball: its path, its size and the names of its files. */
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

/** Nothing but what users need: the compiled sources of today with their maps, the types, the papers. */
export function checkOwnFiles(names) {
  const modules = names.filter((name) => name.startsWith('dist/') && name.endsWith('.js'));
  const expected = modules.flatMap((name) => [name, `${name}.map`]);
  assertSame(names.filter((name) => !own.has(name)).sort(), expected.sort(), 'files in the package');
  assertSame(names.filter((name) => own.has(name)).sort(), [...own].sort(), 'papers in the package');
  const sources = ['index.ts', ...typescript('lib')].map((name) => `dist/${name.replace(/\.ts$/, '.js')}`);
  assertSame(modules.sort(), sources.sort(), 'compiled modules (remove dist/ if one is left over)');
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

/** Every file that another one names is in the package, seen where it is installed. */
export function checkReferences(installed, names) {
  const has = (name, from) => assert(names.includes(name), `${from} names ${name}, which is not packed`);
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
      assert(isThere || typeof sourcesContent[index] === 'string', `${map}: ${source} is not to be had`);
    }
  }
}
