// npm run third-party: writes THIRD-PARTY.md, the licences of the software that the published packages contain. Every
// published package carries the file.
//   --check   only fails when the file is out of date
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { bundledPackages } from './lib/bundle-cli.mjs';
import { root, runMain, StepError } from './lib/run.mjs';
import { targets } from './lib/targets.mjs';

const file = join(root, 'THIRD-PARTY.md');
const head = `# Third-party software

Written by \`npm run third-party\`: do not edit. Where a component offers a choice of licences, it is used under any of
them.
`;
const native = `## In the native packages

The addon contains these Rust crates and parts of Rust's standard library (MIT or Apache-2.0, The Rust Project
Developers).
`;
const commandLine = `## In the command line

\`dist/lib/cli/main.js\` contains these npm packages.
`;
const licences = `## Licence texts
`;

await runMain(async () => {
  const crates = linkedCrates();
  const packages = await bundledNpmPackages();
  const components = [...crates, ...packages];
  const parts = [head, native, list(crates), commandLine, list(packages), licences, texts(components)];
  const text = parts.join('\n');
  if (!process.argv.includes('--check')) {
    writeFileSync(file, text);
    console.log(`${crates.length} crates, ${packages.length} npm packages`);
  } else if (!existsSync(file) || readFileSync(file, 'utf8') !== text) {
    throw new StepError('THIRD-PARTY.md is out of date: npm run third-party');
  }
});

/** The crates linked into the addon on any platform, without build scripts, macros and our own crates. */
function linkedCrates() {
  const names = new Set();
  for (const { triple } of targets) {
    const options = [
      '--edges',
      'normal,no-proc-macro',
      '--prefix',
      'none',
      '--format',
      '{p}',
      '--target',
      triple,
    ];
    const lines = cargo('tree', '--locked', '-p', 'fdsplice-node', ...options).split('\n');
    for (const line of lines) if (line !== '' && !line.includes('(/')) names.add(line.replace(' (*)', ''));
  }
  const { packages } = JSON.parse(cargo('metadata', '--locked', '--format-version', '1'));
  return packages
    .filter(({ name, version }) => names.has(`${name} v${version}`))
    .map((crate) => ({ ...crate, folder: dirname(crate.manifest_path) }))
    .sort(byNameAndVersion);
}

/** The npm packages whose code is in the command line. */
async function bundledNpmPackages() {
  const folders = await bundledPackages();
  return folders
    .map((folder) => {
      const { name, version, license, repository } = JSON.parse(
        readFileSync(join(folder, 'package.json'), 'utf8'),
      );
      if (licenceFiles(folder).length === 0) throw new StepError(`${name} ${version} has no licence text`);
      return { name, version, license, repository: webAddress(repository), folder };
    })
    .sort(byNameAndVersion);
}

/** The address of a repository, of which npm allows several spellings. */
function webAddress(repository) {
  const given = typeof repository === 'string' ? repository : repository?.url;
  if (given === undefined) return undefined;
  if (/^[\w.-]+\/[\w.-]+$/.test(given)) return `https://github.com/${given}`;
  return given
    .replace(/^git\+/, '')
    .replace(/^git:/, 'https:')
    .replace(/\.git$/, '');
}

function byNameAndVersion(a, b) {
  return a.name.localeCompare(b.name, 'en') || a.version.localeCompare(b.version, 'en');
}

function list(components) {
  const lines = components.map(({ name, version, license, repository }) => {
    if (!license) throw new StepError(`${name} ${version} does not declare its licence`);
    return `- ${name} ${version}, ${license}${repository ? `, <${repository}>` : ''}`;
  });
  return `${lines.join('\n')}\n`;
}

/** Each text once, with the components it came with. */
function texts(components) {
  const owners = new Map();
  for (const { name, folder } of components) {
    for (const paper of licenceFiles(folder)) {
      const text = readFileSync(join(folder, paper), 'utf8')
        .replaceAll(/[ \t\r]+$/gm, '')
        .trim();
      if (!owners.has(text)) owners.set(text, new Set());
      owners.get(text).add(name);
    }
  }
  const parts = [...owners].map(
    ([text, names]) => `### ${[...names].join(', ')}\n\n\`\`\`text\n${text}\n\`\`\`\n`,
  );
  return parts.join('\n');
}

function licenceFiles(folder) {
  const names = readdirSync(folder).filter((name) => /^(LICEN[CS]E|COPYRIGHT|COPYING|NOTICE)/i.test(name));
  return names.sort();
}

function cargo(...args) {
  return execFileSync('cargo', args, {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 256 << 20,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
}
