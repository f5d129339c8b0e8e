// Loading without the native core: each cause is produced for real, in a separate process, from an installation with
// that one defect. The package always loads, and `capabilities().reason` states why the core is missing.
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';
import { capabilities, type Capabilities } from 'fdsplice';

import { addon, installation, manifest, runIn } from '../helpers/installation.js';

// Only the installation may decide the engine.
delete process.env['FDSPLICE_ENGINE'];
delete process.env['FDSPLICE_ADDON'];

const { platform } = capabilities();
const name = `@fdsplice/${platform}`;
const native = readFileSync(addon(platform));

const PRINT_CAPABILITIES = `
  import { capabilities } from 'fdsplice';
  console.log(JSON.stringify(capabilities()));
`;

/** The capabilities that a process reports in an installation. */
async function capabilitiesIn(
  t: ExecutionContext,
  folder: string,
  ...options: string[]
): Promise<Capabilities> {
  const { code, stdout, stderr } = await runIn(t, folder, PRINT_CAPABILITIES, ...options);
  t.is(code, 0, stderr);
  return JSON.parse(stdout.toString()) as Capabilities;
}

/** Asserts that there is no native core. Returns the reason without its common start. */
function reasonOf(t: ExecutionContext, found: Capabilities): string {
  t.log(found.reason);
  t.like(found, { native: false, splice: false, sendfile: false, copyFileRange: false, pipeMaxSize: 0 });
  const start = `no native core for ${found.platform}: `;
  t.true(found.reason?.startsWith(start), found.reason);
  t.false(found.reason?.includes('\n'));
  return found.reason?.slice(start.length) ?? '';
}

const permissionFlag =
  Number(process.versions.node.split('.')[0]) < 23 ? '--experimental-permission' : '--permission';

/** An option of Node that runs `change` before the package loads, to imitate another platform. */
const pretend = (change: string): string => `--import=data:text/javascript,${encodeURIComponent(change)}`;

test('the native core comes from the platform package', async (t) => {
  const found = await capabilitiesIn(t, installation(t, { platform, contents: native }));
  t.like(found, { native: true, platform, splice: true });
  t.is(found.reason, undefined);
});

test('in a checkout, FDSPLICE_ADDON names the addon to load', async (t) => {
  const folder = installation(t);
  writeFileSync(join(folder, 'node_modules/fdsplice/Cargo.toml'), '');
  const chosen = join(folder, 'chosen.node');
  const choose = pretend(`process.env.FDSPLICE_ADDON = ${JSON.stringify(chosen)}`);
  t.regex(reasonOf(t, await capabilitiesIn(t, folder, choose)), /^Cannot find module '.*chosen\.node'/);
  writeFileSync(chosen, native);
  t.true((await capabilitiesIn(t, folder, choose)).native);
});

test('in an installation, FDSPLICE_ADDON is ignored', async (t) => {
  const folder = installation(t, { platform, contents: native });
  const found = await capabilitiesIn(
    t,
    folder,
    pretend("process.env.FDSPLICE_ADDON = '/nonexistent/chosen.node'"),
  );
  t.true(found.native, found.reason);
});

test('without the platform package, the reason names it and the npm options that omit it', async (t) => {
  const reason = reasonOf(t, await capabilitiesIn(t, installation(t)));
  t.regex(reason, new RegExp(`^the package ${name} is not installed: .*--omit=optional.*--no-optional`));
});

test('without the platform package, a relay works through streams', async (t) => {
  const program = `
    import { once } from 'node:events';
    import net from 'node:net';
    import { relay } from 'fdsplice';
    const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const pair = async () => {
      const near = once(server, 'connection');
      const far = net.connect({ ...server.address(), host: '127.0.0.1', allowHalfOpen: true });
      return [(await near)[0], far];
    };
    const [[a, client], [b, origin]] = [await pair(), await pair()];
    const transfer = relay(a, b);
    client.end('ping');
    origin.end('answer');
    const read = async (socket) => Buffer.concat(await socket.toArray()).toString();
    const seen = await Promise.all([read(origin), read(client)]);
    const { tx, rx, engine } = await transfer;
    server.close();
    console.log(JSON.stringify([seen, tx, rx, engine]));
  `;
  const { code, stdout, stderr } = await runIn(t, installation(t), program);
  t.is(code, 0, stderr);
  t.deepEqual(JSON.parse(stdout.toString()), [['ping', 'answer'], 4, 6, 'stream']);
});

test('with only the package of another C library, the reason names that package', async (t) => {
  const other = platform.endsWith('gnu')
    ? platform.replace(/gnu$/, 'musl')
    : platform.replace(/musl$/, 'gnu');
  const reason = reasonOf(
    t,
    await capabilitiesIn(t, installation(t, { platform: other, contents: 'elsewhere' })),
  );
  t.regex(reason, new RegExp(`^only @fdsplice/${other} is installed: .*install here again$`));
});

test('with a platform package of another version, the reason has both versions', async (t) => {
  const reason = reasonOf(
    t,
    await capabilitiesIn(t, installation(t, { platform, version: '0.0.9', contents: native })),
  );
  t.is(reason, `${name} is version 0.0.9, fdsplice is ${manifest.version}`);
});

test('with a platform package without its addon, the reason names the file', async (t) => {
  const reason = reasonOf(t, await capabilitiesIn(t, installation(t, { platform })));
  t.regex(reason, new RegExp(`^Cannot find (module|package) .*fdsplice.${platform}.node`));
});

/** The addon, changed to require a future version of glibc. */
const ofTheFuture = (): Buffer =>
  Buffer.from(native.toString('latin1').replace(/GLIBC_2(?=\.\d\d\0)/, 'GLIBC_9'), 'latin1');

/** The addon, changed to claim another processor in its header (`e_machine` 22 is S/390). */
function ofAnotherProcessor(): Buffer {
  const changed = Buffer.from(native);
  changed.writeUInt16LE(22, 18);
  return changed;
}

for (const [defect, contents, expected] of [
  ['empty', '', /: file too short$/],
  ['not a library', 'x'.repeat(4096), /: invalid ELF header$/],
  ['for another processor', ofAnotherProcessor(), /: cannot open shared object file/],
  ['for a newer C library', ofTheFuture(), /^the C library of this system is too old: .*GLIBC_9/],
] as const) {
  test(`with an addon that is ${defect}, the reason is the error of the loader`, async (t) => {
    const reason = reasonOf(t, await capabilitiesIn(t, installation(t, { platform, contents })));
    t.regex(reason, expected);
    t.true(reason.includes(`fdsplice.${platform}.node`), reason);
  });
}

test('with --no-addons, the reason names that option', async (t) => {
  const folder = installation(t, { platform, contents: native });
  t.regex(
    reasonOf(t, await capabilitiesIn(t, folder, '--no-addons')),
    /^addons are disabled in this process .*--no-addons/,
  );
});

test('with the permission model but without --allow-addons, the reason names that option', async (t) => {
  const folder = installation(t, { platform, contents: native });
  const permission = [permissionFlag, '--allow-fs-read=*', '--no-warnings'];
  t.regex(reasonOf(t, await capabilitiesIn(t, folder, ...permission)), /--permission without --allow-addons/);
  t.true((await capabilitiesIn(t, folder, ...permission, '--allow-addons')).native);
});

test('without permission to read the platform package, the reason is the denied access', async (t) => {
  const folder = installation(t, { platform, contents: native });
  const may = [join(folder, 'program.mjs'), join(folder, 'node_modules/fdsplice')];
  const options = [
    permissionFlag,
    ...may.map((path) => `--allow-fs-read=${path}/*`),
    `--allow-fs-read=${may[0]}`,
  ];
  const reason = reasonOf(t, await capabilitiesIn(t, folder, ...options, '--no-warnings', '--allow-addons'));
  t.regex(reason, /Access to this API has been restricted/);
});

for (const [system, change, expected] of [
  ['macOS', "Object.defineProperty(process, 'platform', { value: 'darwin' })", `darwin-${process.arch}`],
  ['Windows', "Object.defineProperty(process, 'platform', { value: 'win32' })", `win32-${process.arch}`],
  ['another processor', "Object.defineProperty(process, 'arch', { value: 's390x' })", 'linux-s390x-gnu'],
  [
    'ARMv6',
    "Object.defineProperty(process, 'arch', { value: 'arm' });" +
      "Object.defineProperty(process, 'config', { value: { variables: { arm_version: '6' } } })",
    'linux-armv6-gnueabihf',
  ],
] as const) {
  test(`on ${system}, the reason is that no addon is built for it`, async (t) => {
    const found = await capabilitiesIn(t, installation(t, { platform, contents: native }), pretend(change));
    t.is(found.platform, expected);
    t.is(reasonOf(t, found), 'none is built for it');
  });
}

test('on ARMv7, the platform package is the one with hard float', async (t) => {
  const change =
    "Object.defineProperty(process, 'arch', { value: 'arm' });" +
    "Object.defineProperty(process, 'config', { value: { variables: { arm_version: '7' } } })";
  const found = await capabilitiesIn(t, installation(t), pretend(change));
  t.is(found.platform, 'linux-arm-gnueabihf');
  t.regex(reasonOf(t, found), /^the package @fdsplice\/linux-arm-gnueabihf is not installed/);
});

for (const [version, isSupported] of [
  ['18.20.8', false],
  ['20.18.3', false],
  ['20.19.0', true],
  ['21.7.3', false],
  ['22.12.0', false],
  ['22.13.0', true],
  ['23.11.0', false],
  ['24.0.0', true],
  ['28.0.0', true],
] as const) {
  test(`Node ${version} ${isSupported ? 'gets' : 'does not get'} the native core`, async (t) => {
    t.is(manifest.engines.node, '^20.19 || ^22.13 || >=24');
    const change = `Object.defineProperty(process.versions, 'node', { value: '${version}' })`;
    const found = await capabilitiesIn(t, installation(t, { platform, contents: native }), pretend(change));
    if (isSupported) t.true(found.native, found.reason);
    else t.is(reasonOf(t, found), `Node ${version} is not in ${manifest.engines.node}`);
  });
}

/** Copies the implementation out of its package, into a file as a bundler writes it. Returns a program that uses it. */
function bundled(folder: string): string {
  renameSync(join(folder, 'node_modules/fdsplice'), join(folder, 'unbundled'));
  const code = readFileSync(join(folder, 'unbundled/dist/index.cjs'), 'utf8');
  writeFileSync(join(folder, 'bundle.cjs'), code);
  writeFileSync(join(folder, 'package.json'), '{ "name": "application", "version": "7.0.0" }');
  return PRINT_CAPABILITIES.replace('import { capabilities }', 'import fdsplice').replace(
    "'fdsplice';",
    "'./bundle.cjs'; const { capabilities } = fdsplice;",
  );
}

test('a bundle finds the native core in the node_modules beside it', async (t) => {
  const folder = installation(t, { platform, contents: native });
  const { code, stdout, stderr } = await runIn(t, folder, bundled(folder));
  t.is(code, 0, stderr);
  t.like(JSON.parse(stdout.toString()), { native: true, platform });
});

test('a bundle without the platform package beside it still loads, and the reason says where to put it', async (t) => {
  const folder = installation(t);
  const { code, stdout, stderr } = await runIn(t, folder, bundled(folder));
  t.is(code, 0, stderr);
  t.is(
    reasonOf(t, JSON.parse(stdout.toString()) as Capabilities),
    `the package ${name} is not installed where ${join(folder, 'bundle.cjs')} is, which bundles fdsplice: ` +
      `put node_modules/${name} beside it, or exclude fdsplice from the bundle`,
  );
});

test('a bundle ignores an addon and a Cargo.toml beside it, because they are not of this package', async (t) => {
  const folder = installation(t);
  const program = bundled(folder);
  writeFileSync(join(folder, `fdsplice.${platform}.node`), native);
  writeFileSync(join(folder, 'Cargo.toml'), '');
  const choose = pretend(`process.env.FDSPLICE_ADDON = ${JSON.stringify(addon(platform))}`);
  const { stdout } = await runIn(t, folder, program, choose);
  t.regex(reasonOf(t, JSON.parse(stdout.toString()) as Capabilities), / is not installed where /);
});

test('a bundle that is an ES module without require finds the native core beside the main program', async (t) => {
  const folder = installation(t, { platform, contents: native });
  const code = readFileSync(join(folder, 'node_modules/fdsplice/dist/index.cjs'), 'utf8');
  bundled(folder);
  const program = `
    const module = { exports: {} };
    ((module, exports) => {${code}
    })(module, module.exports);
    console.log(JSON.stringify(module.exports.capabilities()), typeof require, typeof __filename);
  `;
  const { code: status, stdout, stderr } = await runIn(t, folder, program);
  t.is(status, 0, stderr);
  t.regex(stdout.toString(), /"native":true.* undefined undefined\n$/);
});

test('loading the package does not change the settings of the diagnostic report', async (t) => {
  const program = `
    const before = process.report.excludeNetwork;
    await import('fdsplice');
    console.log(before === process.report.excludeNetwork, before);
  `;
  const folder = installation(t, { platform, contents: native });
  const { stdout } = await runIn(t, folder, program);
  t.regex(stdout.toString(), /^true /);
});

test('a process without a diagnostic report can load the package', async (t) => {
  for (const without of [
    'process.report.getReport = () => { throw new Error("switched off"); }',
    'Object.defineProperty(process, "report", { value: undefined })',
  ]) {
    const found = await capabilitiesIn(t, installation(t, { platform, contents: native }), pretend(without));
    t.true(found.native || !platform.endsWith('gnu'), found.reason);
  }
});
