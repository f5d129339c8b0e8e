// node scripts/check-versions.mjs [v1.2.3]: checks that all manifests, and the tag if one is given, have the same version,
// and that the manifests of the platform packages agree with the package's own.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root, runMain, StepError } from './lib/run.mjs';
import { targets } from './lib/targets.mjs';

const read = (path) => readFileSync(join(root, path), 'utf8');
const readJson = (path) => JSON.parse(read(path));

await runMain(async () => {
  const own = readJson('package.json');
  const [tag] = process.argv.slice(2);
  const same = (found, expected, label) => {
    const [a, b] = [JSON.stringify(found), JSON.stringify(expected)];
    if (a !== b) throw new StepError(`${label}: ${a}, expected ${b}`);
  };
  if (tag !== undefined) same(tag, `v${own.version}`, 'the tag');
  const [, workspace] = /\[workspace\.package\][^[]*?^version = "([^"]+)"$/m.exec(read('Cargo.toml')) ?? [];
  same(workspace, own.version, 'Cargo.toml');
  same(readJson('package-lock.json').version, own.version, 'package-lock.json (npm run lock)');

  const platforms = targets.map(({ platform }) => platform).sort();
  same(readdirSync(join(root, 'npm')).sort(), platforms, 'the folders in npm/');
  const optional = Object.fromEntries(platforms.map((platform) => [`@fdsplice/${platform}`, own.version]));
  same(own.optionalDependencies, optional, 'optionalDependencies');
  for (const { platform, name, machine, isMusl } of targets) {
    const manifest = readJson(`npm/${platform}/package.json`);
    const where = `npm/${platform}/package.json`;
    same(manifest.name, name, `${where}: name`);
    same(manifest.main, `fdsplice.${platform}.node`, `${where}: main`);
    for (const field of ['version', 'license', 'engines', 'author']) {
      same(manifest[field], own[field], `${where}: ${field}`);
    }
    same(manifest.repository, { ...own.repository, directory: `npm/${platform}` }, `${where}: repository`);
    same(
      [manifest.os, manifest.cpu],
      [['linux'], [platform.split('-')[1]]],
      `${where}: os and cpu (${machine})`,
    );
    same(manifest.libc, [isMusl ? 'musl' : 'glibc'], `${where}: libc`);
  }
  console.log(`${own.version} everywhere`);
});
