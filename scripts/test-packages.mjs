// npm test -- --packages-only: runs the test suites that the packages served by adapters publish, unmodified, without and with
// the adapter. The same tests must pass.
import { execFile } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { output } from './install/process.mjs';
import { root, runMain } from './lib/run.mjs';
import { assert, assertSame, Suite } from './lib/suite.mjs';

/** The packages whose tarball has their tests, with what these need beside the dependencies. */
const packages = {
  '@fastify/send': ['after', 'supertest'],
  '@fastify/static': ['@fastify/compress', 'concat-stream', 'fastify', 'pino', 'proxyquire'],
};

await runMain(async () => {
  const suite = new Suite('packages');
  const folder = mkdtempSync(join(tmpdir(), 'fdsplice-packages-'));
  try {
    const adapter = copyWithoutThreshold(folder);
    for (const [name, needed] of Object.entries(packages)) {
      await suite.check(`${name}: its own tests pass as without the adapter`, () =>
        compare(name, needed, join(folder, name.replace(/\W/g, '-')), adapter),
      );
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  suite.report();
});

/** Copies this package with an adapter that takes streams of every size: the files in the tests are small. */
function copyWithoutThreshold(folder) {
  const copy = join(folder, 'fdsplice');
  cpSync(join(root, 'dist'), join(copy, 'dist'), { recursive: true });
  for (const name of readdirSync(root)) {
    if (name === 'package.json' || name.endsWith('.node')) cpSync(join(root, name), join(copy, name));
  }
  let changed = 0;
  for (const name of readdirSync(join(copy, 'dist'), { recursive: true })) {
    if (!/\.c?js$/.test(name)) continue;
    const path = join(copy, 'dist', name);
    const code = readFileSync(path, 'utf8');
    const everySize = code.replace(/\bSMALL = (128 \* 1024|131072)/, 'SMALL = -1');
    if (everySize === code) continue;
    writeFileSync(path, everySize);
    changed += 1;
  }
  assert(changed > 0, 'dist/ has no constant SMALL of 128 KiB');
  const { exports } = JSON.parse(readFileSync(join(copy, 'package.json'), 'utf8'));
  const urlOf = ({ import: module = { default: undefined }, default: fallback }) =>
    pathToFileURL(join(copy, module.default ?? fallback)).href;
  return { FDSPLICE_INDEX: urlOf(exports['.']), FDSPLICE_ADAPTER: urlOf(exports['./send']) };
}

async function compare(name, needed, folder, adapter) {
  await unpack(name, needed, folder);
  const plain = await runTests(folder, {});
  const file = join(folder, 'sent');
  const preload = pathToFileURL(join(root, 'scripts/packages/preload.mjs')).href;
  const adapted = await runTests(folder, {
    ...adapter,
    FDSPLICE_SENT: file,
    NODE_OPTIONS: `--import=${preload}`,
  });
  assert(plain.passed.length > 100, `${plain.passed.length} tests pass without the adapter`);
  assertSame(adapted.failed, plain.failed, 'tests that fail');
  assertSame(adapted.passed, plain.passed, 'tests that pass');
  const sent = readFileSync(file, 'utf8')
    .split('\n')
    .reduce((sum, bytes) => sum + Number(bytes), 0);
  assert(sent > 0, 'the adapter sent nothing');
  // npm leaves symbolic links out of a tarball, and some tests need them.
  return `${plain.passed.length} pass, ${plain.failed.length} fail in both runs, ${sent} bytes by transfers`;
}

/** Unpacks the locked version, and installs what its tests need. */
async function unpack(name, needed, folder) {
  mkdirSync(folder);
  const { version } = JSON.parse(readFileSync(join(root, 'node_modules', name, 'package.json'), 'utf8'));
  const packed = await output('npm', ['pack', '--json', '--pack-destination', folder, `${name}@${version}`]);
  await output('tar', [
    'xzf',
    join(folder, JSON.parse(packed)[0].filename),
    '-C',
    folder,
    '--strip-components=1',
  ]);
  assert(existsSync(join(folder, 'test')), 'the tarball has no tests');
  const manifest = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  const devDependencies = Object.fromEntries(needed.map((each) => [each, manifest.devDependencies[each]]));
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ ...manifest, devDependencies, scripts: {} }));
  await output('npm', ['install', '--no-audit', '--no-fund', '--ignore-scripts'], { cwd: folder });
}

/** The names of the tests that passed and failed, each sorted. */
async function runTests(cwd, env) {
  const options = { cwd, env: { ...process.env, ...env }, maxBuffer: 256 << 20, timeout: 600_000 };
  // A test that fails in both runs is no failure here.
  const tap = await new Promise((resolve) => {
    execFile(process.execPath, ['--test', '--test-reporter=tap'], options, (_error, stdout) =>
      resolve(stdout),
    );
  });
  const names = (pattern) => [...tap.matchAll(pattern)].map(([, name]) => name).sort();
  return { passed: names(/^ *ok \d+ - (.*)$/gm), failed: names(/^ *not ok \d+ - (.*)$/gm) };
}
