// node scripts/try-packed.mjs <folder> <platform> [command …]: installs the packed tarballs of a folder and relays bytes
// with them. Needs only Node and npm, so it runs in a minimal container.
//   <platform>   a folder of npm/, whose native core has to load; or `none` for the stream engine
//   command      runs the programs instead of this Node, for example an emulator with a Node for the platform
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
    // --force installs a package for another platform, whose programs then run in an emulator.
    const args = ['install', '--no-audit', '--no-fund', '--force', ...tarballs];
    await output(process.execPath, [npm(), ...args], { cwd: folder });
    for (const file of ['esm.mjs', 'cjs.cjs']) {
      await suite.check(`${file} on ${platform}`, async () => {
        const stdout = await output(command, [...options, join(folder, file)], { cwd: folder });
        const result = JSON.parse(stdout.trim().split('\n').at(-1));
        if (wanted && result.capabilities.platform !== wanted.platform) {
          throw new Error(`it reports the platform ${result.capabilities.platform}`);
        }
        return wanted ? isNative(result) : isStreams(result);
      });
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  suite.report();
});

/** The path of npm's JavaScript program. On some systems `npm` itself is a shell script, which Node cannot run. */
function npm() {
  const home = dirname(process.execPath);
  const places = ['../lib/node_modules', 'node_modules', '../share/nodejs'].map((path) => join(home, path));
  const found = places.map((path) => join(path, 'npm/bin/npm-cli.js')).find((path) => existsSync(path));
  if (found === undefined) throw new StepError(`no npm beside ${process.execPath}`);
  return found;
}
