// Test runners that load the package.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const jest = { rootDir: '.', testEnvironment: 'node', testRegex: ['\\.spec\\.[cm]?[jt]s$'], transform: {} };

/** How ts-jest compiles. */
const typescript = {
  strict: true,
  skipLibCheck: false,
  target: 'es2022',
  module: 'node16',
  moduleResolution: 'node16',
  types: ['node'],
};

/** Each runner with its program, its arguments, and its settings as a file. */
const all = {
  Jest: {
    tool: 'jest',
    spec: 'required.spec.cjs',
    settings: { ...jest, moduleFileExtensions: ['js', 'cjs', 'json', 'node'] },
    args: (settings) => ['--config', settings, '--runInBand', '--no-watchman', '--no-cache'],
  },
  'ts-jest': {
    tool: 'jest',
    spec: 'typed.spec.ts',
    settings: (tool) => ({
      ...jest,
      moduleFileExtensions: ['ts', 'js', 'cjs', 'json', 'node'],
      transform: { '\\.ts$': [tool('ts-jest'), { tsconfig: typescript }] },
    }),
    args: (settings) => ['--config', settings, '--runInBand', '--no-watchman', '--no-cache'],
  },
  'Mocha with CommonJS': { tool: 'mocha', spec: 'required.spec.cjs', args: () => ['--exit'] },
  'Mocha with ES modules': { tool: 'mocha', spec: 'imported.spec.mjs', args: () => ['--exit'] },
  Vitest: { tool: 'vitest', spec: 'imported.spec.mjs', args: () => ['run', '--globals', '--root', '.'] },
  'Vitest with TypeScript': {
    tool: 'vitest',
    spec: 'typed.spec.ts',
    args: () => ['run', '--globals', '--root', '.'],
  },
};
export const runners = Object.keys(all);

/** Runs the program of a runner in a consumer's folder, and resolves with its result. */
export async function runTests(name, consumer, tools) {
  const { tool, spec, settings, args } = all[name];
  const file = join(consumer.folder, `${tool}-${spec}.json`);
  if (settings)
    writeFileSync(file, JSON.stringify(typeof settings === 'function' ? settings(tools.path) : settings));
  const result = join(consumer.folder, `result-${tool}-${spec}.json`);
  await consumer.program([tools[tool], ...args(file), spec], { RESULT: result });
  return JSON.parse(readFileSync(result, 'utf8'));
}
