// npm run test:docs: checks the documents. Every TypeScript block compiles against the package, and those marked `ts run`
// run. The tests that are quoted exist. The commands are real, and the examples in CONTRIBUTING.md run.
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { output } from './install/process.mjs';
import { checkCommand, commandsIn, isQuick, parse } from './lib/commands.mjs';
import { checkQuotedTests } from './lib/quoted-tests.mjs';
import { root, runMain } from './lib/run.mjs';
import { assert, Suite } from './lib/suite.mjs';

// Inside the package, so that `fdsplice` and its types resolve to this checkout.
const folder = join(root, 'target/docs');
/** Languages of programs that this script would not compile. */
const unchecked = /^(js|mjs|cjs|javascript|mts|cts|tsx|typescript)$/i;

/** Commands that the check of commands has to reject, each for another reason. */
const madeUp = [
  'npm run no-such-script',
  'npm run bench --quick',
  'npm run soak -- --no-such-option',
  'npm run dev -- no-such-spec',
  'npm test -- --no-such-suite-only',
  'npm test -- --ava-only __test__/no-such.spec.ts',
  "npm test -- --ava-only __test__/relay --match '*no such title*'",
  'npm test -- --cargo-only no_such_test',
  'npm test -- --cargo-only -p no-such-crate',
  'npm test -- --cargo-only --test no_such_file',
  'node scripts/no-such.mjs',
  'bash .ci/run --no-such-option',
];

await runMain(async () => {
  const suite = new Suite('docs');
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  await checkPrograms(suite);
  await suite.check('every quoted test exists', () => {
    const checked = documents().map(checkQuotedTests);
    const problems = checked.flatMap(({ problems }) => problems);
    assert(problems.length === 0, problems.join('\n'));
    const quoted = checked.reduce((sum, { quoted }) => sum + quoted, 0);
    assert(quoted > 0, 'there is none');
    return `${quoted} of them`;
  });
  await checkCommands(suite);
  suite.report();
});

async function checkPrograms(suite) {
  const blocks = documents().flatMap(blocksOf);
  await suite.check('every program is in a block marked ts', () => {
    const others = blocks.filter(({ language }) => unchecked.test(language));
    assert(others.length === 0, others.map(({ where, language }) => `${where}: ${language}`).join('\n'));
  });
  const programs = blocks.filter(({ language }) => language === 'ts');
  for (const { file, code } of programs) writeFileSync(join(folder, file), code);
  const compiled = await suite.check('every TypeScript block compiles', async () => {
    assert(programs.length > 0, 'there is none');
    await compile();
    return `${programs.length} of them`;
  });
  for (const { where, file } of compiled ? programs.filter(({ isRun }) => isRun) : []) {
    await suite.check(`the program at ${where} runs`, () => runProgram(file));
  }
}

async function checkCommands(suite) {
  await suite.check('made-up commands are rejected', () => {
    const accepted = madeUp.filter((command) => problemOf(command) === undefined);
    assert(accepted.length === 0, accepted.join('\n'));
    return `${madeUp.length} of them`;
  });
  const commands = documents().flatMap((document) =>
    commandsIn(readFileSync(join(root, document), 'utf8')).map((command) => ({ document, command })),
  );
  await suite.check('every command is real', () => {
    const problems = commands.flatMap(({ document, command }) => {
      const problem = problemOf(command);
      return problem === undefined ? [] : [`${document}: ${command}: ${problem}`];
    });
    assert(problems.length === 0, problems.join('\n'));
    return `${commands.length} of them`;
  });
  for (const { document, command } of commands) {
    if (document !== 'CONTRIBUTING.md' || problemOf(command) !== undefined || !isQuick(command)) continue;
    await suite.check(`${command} runs`, async () => {
      const { env, words } = parse(command);
      await output(words[0], words.slice(1), { cwd: root, env: { ...process.env, ...env } });
    });
  }
}

/** The reason why a command is not real. */
function problemOf(command) {
  try {
    checkCommand(command);
    return undefined;
  } catch (error) {
    return error.message;
  }
}

function documents() {
  const listed = execFileSync('git', ['ls-files', '-z', '*.md'], { cwd: root, encoding: 'utf8' });
  return listed.split('\0').filter((name) => name !== '' && name !== 'THIRD-PARTY.md');
}

function blocksOf(document) {
  const blocks = [];
  let open;
  for (const [index, line] of readFileSync(join(root, document), 'utf8').split('\n').entries()) {
    const fence = /^\s*```(.*)$/.exec(line);
    if (fence && open === undefined) {
      const [language = '', ...marks] = fence[1].trim().split(/\s+/);
      const file = `${document.replaceAll(/\W/g, '-')}-line-${index + 1}.mts`;
      open = { where: `${document}:${index + 1}`, file, language, isRun: marks.includes('run'), code: '' };
    } else if (fence) {
      blocks.push(open);
      open = undefined;
    } else if (open !== undefined) {
      open.code += `${line}\n`;
    }
  }
  return blocks;
}

async function compile() {
  const compilerOptions = {
    strict: true,
    target: 'es2023',
    lib: ['es2023', 'esnext.disposable'],
    module: 'nodenext',
    moduleDetection: 'force',
    types: ['node'],
    rootDir: '.',
    outDir: 'out',
  };
  const project = join(folder, 'tsconfig.json');
  writeFileSync(project, JSON.stringify({ compilerOptions, include: ['*.mts'] }));
  await output(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '--project', project]);
}

/** Runs a compiled program in an empty folder. */
async function runProgram(file) {
  const cwd = mkdtempSync(join(tmpdir(), 'fdsplice-docs-'));
  try {
    const program = join(folder, 'out', file.replace(/\.mts$/, '.mjs'));
    await output(process.execPath, [program], { cwd, timeout: 60_000 });
  } finally {
    rmSync(cwd, { recursive: true, force: true });
  }
}
