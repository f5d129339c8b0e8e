// npm run test:docs: every TypeScript block of the documents compiles against the package, those marked `ts run` run, and
// the tests that are quoted exist.
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { output } from './install/process.mjs';
import { checkQuotedTests } from './lib/quoted-tests.mjs';
import { root, runMain } from './lib/run.mjs';
import { assert, Suite } from './lib/suite.mjs';

// Inside the package, so that its name means itself, and so do its types.
const folder = join(root, 'target/docs');
/** What would be a program and yet not be checked. */
const unchecked = /^(js|mjs|cjs|javascript|mts|cts|tsx|typescript)$/i;

await runMain(async () => {
  const suite = new Suite('docs');
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
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
  await suite.check('every test that is quoted exists', () => {
    const checked = documents().map(checkQuotedTests);
    const problems = checked.flatMap(({ problems }) => problems);
    assert(problems.length === 0, problems.join('\n'));
    const quoted = checked.reduce((sum, { quoted }) => sum + quoted, 0);
    assert(quoted > 0, 'there is none');
    return `${quoted} of them`;
  });
  suite.report();
});

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

/** In a folder of its own, with what a program of the documents may expect to find there. */
async function runProgram(file) {
  const cwd = mkdtempSync(join(tmpdir(), 'fdsplice-docs-'));
  try {
    const program = join(folder, 'out', file.replace(/\.mts$/, '.mjs'));
    await output(process.execPath, [program], { cwd, timeout: 60_000 });
  } finally {
    rmSync(cwd, { recursive: true, force: true });
  }
}
