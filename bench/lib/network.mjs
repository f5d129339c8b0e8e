// A network namespace of its own for the benchmark, with reno as congestion control.
import { spawn, spawnSync } from 'node:child_process';

const marker = 'FDSPLICE_BENCH_BUILDS';

/** Starts a loopback with reno, the congestion control that every kernel allows in every namespace. */
const script = `
ip link set lo up &&
echo reno > /proc/sys/net/ipv4/tcp_congestion_control &&
exec "$@"`;

/** The builds of the process that created this namespace; `undefined` in the machine's network. */
export function buildsFromOutside() {
  const builds = process.env[marker];
  return builds === undefined ? undefined : JSON.parse(builds);
}

/** The reason why no namespace can be created, or `undefined`. */
export function noOwnNetwork() {
  const { error, status, stderr } = spawnSync('unshare', ['--net', 'sh', '-c', script, 'sh', 'true'], {
    encoding: 'utf8',
  });
  return error?.message ?? (status === 0 ? undefined : stderr.trim());
}

/** Runs this program again in a new namespace; resolves with its exit status. */
export async function runInOwnNetwork(builds) {
  const child = spawn(
    'unshare',
    ['--net', 'sh', '-c', script, 'sh', process.execPath, ...process.argv.slice(1)],
    {
      stdio: 'inherit',
      env: { ...process.env, [marker]: JSON.stringify(builds) },
    },
  );
  for (const signal of ['SIGINT', 'SIGTERM']) {
    // Ctrl-C reaches the child directly, `kill` does not. In both cases the child has to end first.
    process.removeAllListeners(signal).on(signal, () => child.kill(signal));
  }
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve(code ?? 1));
  });
}
