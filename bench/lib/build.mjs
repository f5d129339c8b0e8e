// Builds the load generator and the compiled peers.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { root, StepError } from '../../scripts/lib/run.mjs';

/**
 * Builds the load and the compiled peers. Without the load nothing can be measured, so its failure is fatal. A peer that cannot
 * be built is reported as missing.
 */
export function buildAll({ checkout, baseline }) {
  for (const directory of [checkout ?? root, baseline ?? root]) {
    if (!existsSync(join(directory, 'dist/index.js'))) {
      throw new StepError(`${join(directory, 'dist/index.js')} is missing: \`npm run build\` there first`);
    }
  }
  const load = build('the load', 'cargo', ['build', '--release', '--locked', '--package', 'fdsplice-load']);
  if (load !== undefined) throw new StepError(load);
  const target = join(root, 'target/bench-peers');
  mkdirSync(target, { recursive: true });
  return {
    rust: build(
      'the Rust peers',
      'cargo',
      ['build', '--release', '--locked', '--target-dir', target],
      'rust',
    ),
    // With the trailing slash Go writes each program under its own name.
    go: build('the Go peers', 'go', ['build', '-o', `${target}/`, './...'], 'go'),
  };
}

/** Runs a build; the reason of a failure, or `undefined`. */
function build(part, command, args, peers) {
  console.error(`building ${part}`);
  const cwd = peers ? join(root, 'bench/peers', peers) : root;
  const { error, status, stderr } = spawnSync(command, args, { cwd, encoding: 'utf8' });
  if (error?.code === 'ENOENT') return `${command} is not installed`;
  if (error) return `${command} cannot be run: ${error.message}`;
  return status === 0 ? undefined : `${part} cannot be built:\n${stderr}`;
}
