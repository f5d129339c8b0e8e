// npm run test:install: publishes the build to a registry on this machine, installs it from there as users do, and uses
// it: with npm and pnpm, on each supported Node line, with and without the native package, from ESM, CommonJS and
// TypeScript. PATH has only Node and its package managers, so an installation cannot compile anything.
// Test runners and bundlers load it too; FDSPLICE_FULL=1 adds those that take long.
//   --built   uses the addon of npm run build:target for this machine's platform too, as a release does
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { load } from './install/loaders.mjs';
import { Consumer, resolutions } from './install/consumer.mjs';
import { hasReason, isNative, isStreams } from './install/expect.mjs';
import { node, tooOld, versions } from './install/nodes.mjs';
import { checkOwnFiles, checkPlatformFiles, checkReferences, pack } from './install/packed.mjs';
import { output } from './install/process.mjs';
import { startRegistry } from './install/registry.mjs';
import { stage } from './install/stage.mjs';
import { checkExports } from './lib/entries.mjs';
import { assertSame, Suite } from './lib/suite.mjs';
import { tools } from './install/tools.mjs';
import { root, runMain } from './lib/run.mjs';

const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const suite = new Suite('install');

await runMain(async () => {
  const scratch = mkdtempSync(join(tmpdir(), 'fdsplice-install-'));
  try {
    const found = await tools();
    const packed = await packAll(scratch);
    await inspect(packed, found);
    const registry = await startRegistry(
      join(scratch, 'registry'),
      await node(versions[24]),
      found.verdaccio,
    );
    try {
      const env = environment(scratch, registry.url);
      for (const { tarball } of packed) {
        await output('npm', ['publish', tarball, '--ignore-scripts'], { env, cwd: scratch });
      }
      await install({ scratch, env, tools: found, names: packed[0].names });
    } finally {
      await registry.stop();
    }
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
  suite.report();
});

/** The package itself first, then one for each platform that is built. */
async function packAll(scratch) {
  const staged = stage(join(scratch, 'stage'), { fresh: !process.argv.includes('--built') });
  const packed = [await pack(root, scratch)];
  for (const { path, platform } of staged) packed.push({ platform, ...(await pack(path, scratch)) });
  return packed;
}

async function inspect(packed, { publint, attw }) {
  await suite.check('package.json exports the package and each adapter', checkExports);
  for (const { platform, names, size } of packed) {
    await suite.check(`${platform ?? 'fdsplice'} is packed with the files that it should have`, () => {
      if (platform === undefined) checkOwnFiles(names);
      else checkPlatformFiles(names, platform);
      return size;
    });
  }
  await suite.check('publint reports no problem', async () => {
    for (const { tarball } of packed) await output(process.execPath, [publint, 'run', tarball, '--strict']);
  });
  await suite.check('the types are right for every way to import them', async () => {
    await output(process.execPath, [attw, packed[0].tarball]);
  });
}

/** The environment of a new user with our registry, without this machine's npm settings. */
function environment(scratch, url) {
  const home = join(scratch, 'home');
  mkdirSync(home);
  // The registry accepts any publisher, but npm does not publish without a token.
  const settings = [
    `registry=${url}`,
    `${url.slice('http:'.length)}:_authToken=none`,
    'audit=false',
    'fund=false',
  ];
  writeFileSync(join(home, '.npmrc'), `${settings.join('\n')}\n`);
  return { HOME: home, PATH: process.env.PATH, npm_config_update_notifier: 'false' };
}

async function install({ scratch, env, tools, names }) {
  const { pnpm } = tools;
  const installed = async (name, line, command) => {
    const created = await Consumer.create(join(scratch, name), {
      binary: await node(versions[line]),
      env,
      pnpm,
    });
    const isDone = await suite.check(`${command.join(' ')} on Node ${line}`, () =>
      created.install(...command),
    );
    return isDone ? created : undefined;
  };

  let compiled;
  for (const line of Object.keys(versions)) {
    const consumer = await installed(`npm-${line}`, line, ['npm', 'install']);
    if (consumer === undefined) continue;
    await use(consumer, line);
    if (compiled === undefined) {
      await checkInstalledPackages(consumer);
      await inspectInstalled(consumer, names);
    }
    compiled = await useTypes(consumer, line, compiled);
    if (line === '24') await load(suite, { consumer, tools, scratch });
  }
  const linked = await installed('pnpm', 24, ['pnpm', 'add']);
  for (const file of linked === undefined ? [] : ['esm.mjs', 'cjs.cjs']) {
    await suite.check(`${file} after pnpm add`, async () => isNative(await linked.run(file)));
  }
  for (const command of [
    ['npm', 'install', '--omit=optional'],
    ['pnpm', 'add', '--no-optional'],
  ]) {
    const without = await installed(`${command[0]}-without`, 24, command);
    if (without === undefined) continue;
    const after = `after ${command.join(' ')}`;
    await suite.check(`${after} the package reports why it is not native`, async () =>
      hasReason(await without.run('capabilities.mjs'), 'is not installed: optional packages were left out'),
    );
    await suite.check(`${after} a relay works through streams`, async () =>
      isStreams(await without.run('esm.mjs')),
    );
  }
}

async function use(consumer, line) {
  for (const file of ['esm.mjs', 'cjs.cjs']) {
    await suite.check(`${file} on Node ${line}`, async () => isNative(await consumer.run(file)));
  }
  await suite.check(`the command line on Node ${line}`, async () =>
    assertSame(await consumer.version(), version, 'its version'),
  );
}

/** The package has no runtime dependency, so only the package with this machine's addon is installed beside it. */
async function checkInstalledPackages(consumer) {
  await suite.check('npm installs fdsplice and one platform package', async () => {
    const { capabilities } = await consumer.run('capabilities.mjs');
    assertSame(
      await consumer.packages(),
      [`@fdsplice/${capabilities.platform}`, 'fdsplice'],
      'installed packages',
    );
  });
}

async function inspectInstalled(consumer, names) {
  await suite.check('every file that another file refers to is installed', () =>
    checkReferences(join(consumer.folder, 'node_modules/fdsplice'), names),
  );
  await suite.check('a Node that is too old can load it, and gets the reason', async () =>
    hasReason(await consumer.run('capabilities.mjs', await node(tooOld)), `Node ${tooOld} is not in`),
  );
}

/** Compiles TypeScript in the first folder only, and runs the output on every Node. */
async function useTypes(consumer, line, compiled) {
  for (const resolution of Object.keys(resolutions)) {
    const name = `TypeScript with moduleResolution ${resolution}`;
    if (compiled === undefined) await suite.check(`${name} compiles`, () => consumer.compile(resolution));
    else consumer.takeCompiled(compiled, resolution);
    await suite.check(`${name} on Node ${line}`, async () =>
      isNative(await consumer.runCompiled(resolution)),
    );
  }
  return compiled ?? consumer;
}
