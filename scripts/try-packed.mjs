// node scripts/try-packed.mjs <folder> <platform> [command …]: installs the packed tarballs of a folder and relays bytes
// with them. Needs Node and npm alone, so it runs in the barest container.
//   <platform>   a folder of npm/, whose native core has to load; or `none`, where streams have to do
//   command      what runs the programs instead of this Node: an emulator, say, and a Node for the platform
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { isNative, isStreams } from './install/expect.mjs';
import { output } from './install/process.mjs';
import { root, runMain, StepError } from './lib/run.mjs';
import { Suite } from './lib/suite.mjs';
import { target } from './lib/targets.mjs';

const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

await runMain(async () => {
  const [packed, platform, command = process.execPath, ...options] = process.argv.slice(2);
  if (platform === undefined)
    throw new StepError('node scripts/try-packed.mjs <folder> <platform> [command …]');
  const wanted = platform === 'none' ? undefined : target(platform);
  const names = [
    `fdsplice-${version}.tgz`,
    ...(wanted ? [`fdsplice-${wanted.platform}-${version}.tgz`] : []),
  ];
  const suite = new Suite(platform);
  const folder = mkdtempSync(join(tmpdir(), 'fdsplice-try-'));
  try {
    cpSync(join(root, 'scripts/install/consumers'), folder, { recursive: true });
    writeFileSync(join(folder, 'package.json'), JSON.stringify({ name: 'consumer', private: true }));
    const tarballs = names.map((name) => join(resolve(packed), name));
    // By force where the programs are to run in an emulator: npm goes by the platform it runs on.
    const args = ['install', '--no-audit', '--no-fund', '--force', ...tarballs];
    await output(process.execPath, [npm(), ...args], { cwd: folder });
    for (const file of ['esm.mjs', 'cjs.cjs']) {
      await suite.check(`${file} on ${platform}`, async () => {
        const said = await output(command, [...options, join(folder, file)], { cwd: folder });
        const told = JSON.parse(said.trim().split('\n').at(-1));
        if (wanted && told.capabilities.platform !== wanted.platform) {
          throw new Error(`it takes itself to be on ${told.capabilities.platform}`);
        }
        return wanted ? isNative(told) : isStreams(told);
      });
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  suite.report();
});

/** npm's program, to be run by this Node: what is called npm is a shell script on some systems. */
function npm() {
  const home = dirname(process.execPath);
  const places = ['../lib/node_modules', 'node_modules', '../share/nodejs'].map((path) => join(home, path));
  const found = places.map((path) => join(path, 'npm/bin/npm-cli.js')).find((path) => existsSync(path));
  if (found === undefined) throw new StepError(`no npm beside ${process.execPath}`);
  return found;
}
