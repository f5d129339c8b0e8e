// How ava runs the specs. Each file runs in its own process, because a native addon and its runtime are per process. Files
// run one after the other, because several load tests at once would time each other out on a small machine.
// scripts/lib/ava.mjs runs folders without load tests three files at a time.
export default {
  files: ['__test__/**/*.spec.ts'],
  extensions: { ts: 'module' },
  nodeArguments: ['--import=@oxc-node/core/register'],
  workerThreads: false,
  concurrency: 1,
  timeout: '5m',
};
