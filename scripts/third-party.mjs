// npm run third-party: writes THIRD-PARTY.md, the licences of what the addon contains, which go out with each of them.
//   --check   only fails when the file is not what it would write
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { root, runMain, StepError } from './lib/run.mjs';
import { targets } from './lib/targets.mjs';

const file = join(root, 'THIRD-PARTY.md');
const head = `# Third-party software in the native packages

Written by \`npm run third-party\`: do not edit. The addon contains the Rust crates below and parts of Rust's standard
library (MIT or Apache-2.0, The Rust Project Developers). What has a choice of licences is used under any of them.
`;

await runMain(async () => {
  const crates = bundled();
  const text = [head, list(crates), texts(crates)].join('\n');
  if (!process.argv.includes('--check')) {
    writeFileSync(file, text);
    console.log(`${crates.length} crates`);
  } else if (!existsSync(file) || readFileSync(file, 'utf8') !== text) {
    throw new StepError('THIRD-PARTY.md is out of date: npm run third-party');
  }
});

/** The crates that are linked into the addon on any platform: no build scripts, no macros, none of our own. */
function bundled() {
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
    .sort((a, b) => a.name.localeCompare(b.name, 'en') || a.version.localeCompare(b.version, 'en'));
}

function list(crates) {
  const lines = crates.map(({ name, version, license, repository }) => {
    if (!license) throw new StepError(`${name} ${version} does not tell its licence`);
    return `- ${name} ${version}, ${license}${repository ? `, <${repository}>` : ''}`;
  });
  return `${lines.join('\n')}\n`;
}

/** Each text once, with the crates it came with. */
function texts(crates) {
  const owners = new Map();
  for (const { name, manifest_path: manifest } of crates) {
    const folder = dirname(manifest);
    const papers = readdirSync(folder).filter((each) => /^(LICEN[CS]E|COPYRIGHT|COPYING|NOTICE)/i.test(each));
    for (const paper of papers.sort()) {
      const text = readFileSync(join(folder, paper), 'utf8')
        .replaceAll(/[ \t\r]+$/gm, '')
        .trim();
      if (!owners.has(text)) owners.set(text, new Set());
      owners.get(text).add(name);
    }
  }
  const parts = [...owners].map(
    ([text, names]) => `## ${[...names].join(', ')}\n\n\`\`\`text\n${text}\n\`\`\`\n`,
  );
  return parts.join('\n');
}

function cargo(...args) {
  return execFileSync('cargo', args, {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 256 << 20,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
}
