// Each spec file gets a process of its own, because a native addon and its runtime are per process, and files run
// one after the other, because several load tests at once on a small machine would only time each other out.
export default {
  files: ['__test__/**/*.spec.ts'],
  extensions: { ts: 'module' },
  nodeArguments: ['--import=@oxc-node/core/register'],
  workerThreads: false,
  concurrency: 1,
  timeout: '5m',
};
