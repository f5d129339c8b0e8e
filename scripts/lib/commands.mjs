// Checks the commands that a document gives its readers to run: the npm script, the files, the options, the specs and the
// tests that a command names have to exist.
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { root, StepError } from './run.mjs';
import { findSpecs } from './specs.mjs';
import { testFiles, titlesIn } from './test-titles.mjs';

const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

/** The commands in a document: in code spans and on the lines of `sh` blocks. */
export function commandsIn(text) {
  const blocks = Array.from(text.matchAll(/^```sh$([^]*?)^```$/gm), ([, lines]) => lines.split('\n')).flat();
  const spans = Array.from(
    text.replaceAll(/^```[^]*?^```$/gm, '').matchAll(/`([^`]+)`/g),
    ([, span]) => span,
  );
  const lines = [...blocks, ...spans].map((line) => line.replaceAll(/\s+/g, ' ').trim());
  return [
    ...new Set(lines.filter((line) => /^(?:[A-Z_]+=\S+ )*(?:npm (?:test|run) ?|node |bash )/.test(line))),
  ];
}

/** The words of a command, without placeholders (`<…>`, `[…]`, `NAME`); `env` holds the variables before it. */
export function parse(command) {
  const words = Array.from(command.matchAll(/'([^']*)'|"([^"]*)"|(<[^>]*>|\[[^\]]*\])|(\S+)/g), (match) => {
    const text = match[1] ?? match[2] ?? match[3] ?? match[4];
    return { text, isPlaceholder: match[3] !== undefined || /^(?:.+\/)?[A-Z]{2,}(?:\.\w+)?$/.test(text) };
  });
  const isComplete = words.every(({ isPlaceholder }) => !isPlaceholder);
  const texts = words.filter(({ isPlaceholder }) => !isPlaceholder).map(({ text }) => text);
  const first = texts.findIndex((text) => !/^[A-Z_]+=/.test(text));
  const env = Object.fromEntries(texts.slice(0, first).map((text) => text.split('=')));
  return { env, words: texts.slice(first), isComplete };
}

/** Whether a command is an example that runs few tests, and so ends within seconds. */
export function isQuick(command) {
  const { words, isComplete } = parse(command);
  const [, ...args] = split(words);
  return isComplete && (/^npm run dev /.test(command) || (isTestRun(words) && args.length > 1));
}

/** Throws an error that names what does not exist. */
export function checkCommand(command) {
  const { words } = parse(command);
  const [source, ...args] = split(words);
  if (/(^|\/)dev\.mjs$/.test(source)) {
    for (const spec of args.slice(0, 1)) findSpecs(spec);
  } else if (args[0] === '--cargo-only') {
    checkOption(source, args[0]);
    checkCargo(args.slice(1));
  } else if (isTestRun(words)) {
    checkOption(source, args[0]);
    checkAva(args.slice(1));
  } else {
    for (const arg of args) {
      if (arg.startsWith('--')) checkOption(source, arg);
      else if (arg.includes('/') && !arg.includes('://')) assertFile(arg);
    }
  }
}

/** Whether the words run a suite of tests by name, followed by arguments of its runner. */
function isTestRun(words) {
  return words[0] === 'npm' && words.some((word) => /^--(cargo|ava|debug|stream|nodes)-only$/.test(word));
}

/** The script file that runs, or the whole command behind an npm script, and its own arguments. */
function split([program, ...rest]) {
  if (program !== 'npm') {
    assertFile(rest[0]);
    return rest;
  }
  const [name, ...more] = rest[0] === 'run' ? rest.slice(1) : rest;
  const script = scripts[name];
  if (script === undefined) throw new StepError(`package.json has no script ${name}`);
  if (more.length > 0 && more[0] !== '--') throw new StepError(`npm takes ${more[0]} for itself without --`);
  const [, file, option] = /^node (?:--\S+ )*(\S+)(?: (--\S+))?$/.exec(script) ?? [];
  const args = more.slice(1);
  if (file === undefined) return [script, ...args];
  return [file, ...(option === undefined ? [] : [option]), ...args];
}

/** An option is real if the script, or a file that it imports, mentions its name. */
function checkOption(source, option) {
  const [name] = option
    .replace(/^--/, '')
    .replace(/-only$/, '')
    .split('=');
  const texts = existsSync(join(root, source)) ? sourcesOf(source) : [source];
  if (!texts.some((text) => new RegExp(`\\b${name}\\b`).test(text))) {
    throw new StepError(`${source} has no option ${option}`);
  }
}

/** The text of a script and of the files that it imports. */
function sourcesOf(path, seen = new Set()) {
  seen.add(path);
  const text = readFileSync(join(root, path), 'utf8');
  const imported = Array.from(text.matchAll(/(?:from|import) '(\.[^']+)'/g), ([, id]) =>
    join(dirname(path), id),
  );
  const unseen = imported.filter((each) => !seen.has(each) && existsSync(join(root, each)));
  return [text, ...unseen.flatMap((each) => sourcesOf(each, seen))];
}

function assertFile(path) {
  if (!existsSync(join(root, path))) throw new StepError(`there is no ${path}`);
}

function checkAva(args) {
  const specs = [];
  const patterns = [];
  for (let at = 0; at < args.length; at += 1) {
    if (args[at] === '--match') patterns.push(args[(at += 1)]);
    else if (!args[at].startsWith('-')) {
      assertFile(args[at]);
      specs.push(...findSpecs(args[at]));
    }
  }
  const searched = specs.length > 0 ? specs : testFiles.filter((path) => path.endsWith('.spec.ts'));
  for (const pattern of patterns) {
    const parts = pattern.split('*').map((part) => part.replaceAll(/[\\^$.*+?()[\]{}|/]/g, '\\$&'));
    const matcher = new RegExp(`^${parts.join('.*')}$`, 'u');
    const titles = searched.flatMap(titlesIn).map((fixed) => fixed.join('…'));
    if (!titles.some((title) => matcher.test(title))) throw new StepError(`no test matches ${pattern}`);
  }
}

function checkCargo(args) {
  const own = args.includes('--') ? args.slice(0, args.indexOf('--')) : args;
  const valuesOf = (option) => own.filter((_, at) => own[at - 1] === option);
  const [crates, binaries] = [valuesOf('-p'), valuesOf('--test')];
  const [filter] = own.filter((arg, at) => !arg.startsWith('-') && !['-p', '--test'].includes(own[at - 1]));
  for (const crate of crates) {
    if (!existsSync(join(root, folderOf(crate)))) throw new StepError(`there is no crate ${crate}`);
  }
  const isSelected = (path) =>
    (crates.length === 0 || crates.some((crate) => path.startsWith(folderOf(crate)))) &&
    (binaries.length === 0 || binaries.some((name) => path.endsWith(`/tests/${name}.rs`)));
  const files = testFiles.filter((path) => path.endsWith('.rs') && isSelected(path));
  const missing = binaries.find((name) => !files.some((path) => path.endsWith(`/${name}.rs`)));
  if (missing !== undefined) throw new StepError(`there is no test file ${missing}`);
  const names = files.flatMap(titlesIn).map(([title]) => title);
  if (filter !== undefined && !names.some((name) => name.includes(filter))) {
    throw new StepError(`no Rust test is named ${filter}`);
  }
}

const folderOf = (crate) => `crates/${crate === 'fdsplice-testpeer' ? 'testpeer' : crate}/`;
