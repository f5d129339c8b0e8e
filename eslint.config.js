// The rules of the linter. Beside the recommended ones there is one of this project: the parts of Node that its
// documentation does not name are used in a few files alone.
import eslint from '@eslint/js';
import { defineConfig, globalIgnores } from 'eslint/config';
import globals from 'globals';
import tseslint from 'typescript-eslint';

/** Names of Node's internals, wherever a name can stand. */
const INTERNAL =
  '/^(_[a-z]|(readStop|readStart|writeQueueSize|setPrototypeOf|__proto__|kBytesWritten|UpgradeStream|FileHandle|TCP|Pipe|TTY)$)/';
const message =
  'This names an undocumented part of Node. Only lib/node/internals.ts and lib/node/*-internals.ts may do that; use a function from there, or add one.';

const noInternals = [
  `MemberExpression[computed=false][property.name=${INTERNAL}]`,
  `Property[computed=false][key.name=${INTERNAL}]`,
  `:matches(PropertyDefinition, MethodDefinition)[key.name=${INTERNAL}]`,
  `:matches(TSPropertySignature, TSMethodSignature)[key.name=${INTERNAL}]`,
  // Computed keys, and arguments of functions that take a name.
  `Literal[value=${INTERNAL}]`,
  `TemplateElement[value.raw=${INTERNAL}]`,
].map((selector) => ({ selector, message }));

/** Timers and clocks that the tests of an application may replace. */
const replaceable = [
  'setTimeout',
  'clearTimeout',
  'setInterval',
  'clearInterval',
  'setImmediate',
  'clearImmediate',
  'queueMicrotask',
  'performance',
];
const realTimers = 'The tests of an application may replace this. Import it from lib/contract/clock.ts.';

export default defineConfig(
  // The programs of consumers have a TypeScript project of their own.
  globalIgnores(['dist/', 'target/', 'index.d.ts', 'lib/binding.d.ts', 'scripts/install/consumers/*.ts']),
  { linterOptions: { reportUnusedDisableDirectives: 'error' } },
  eslint.configs.recommended,
  { files: ['**/*.{js,mjs,cjs}'], languageOptions: { globals: globals.node } },
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.recommendedTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      '@typescript-eslint/switch-exhaustiveness-check': 'error',
    },
  },
  {
    files: ['lib/**/*.ts'],
    ignores: ['carrier-internals', 'idle-timer-internals', 'internals'].map((name) => `lib/node/${name}.ts`),
    rules: { 'no-restricted-syntax': ['error', ...noInternals] },
  },
  {
    files: ['lib/**/*.ts'],
    ignores: ['lib/contract/clock.ts', 'lib/cli/**'],
    rules: {
      'no-restricted-globals': ['error', ...replaceable.map((name) => ({ name, message: realTimers }))],
      'no-restricted-imports': [
        'error',
        ...['node:timers', 'node:timers/promises', 'node:perf_hooks'].map((name) => ({
          name,
          message: realTimers,
        })),
      ],
      'no-restricted-properties': ['error', { object: 'process', property: 'nextTick', message: realTimers }],
    },
  },
);
