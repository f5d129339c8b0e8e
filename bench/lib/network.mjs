import { spawn, spawnSync } from 'node:child_process';

const marker = 'FDSPLICE_BENCH_BUILDS';

/** A loopback of its own, with the one congestion control that every kernel lets every network have. */
const script = `
ip link set lo up &&
echo reno > /proc/sys/net/ipv4/tcp_congestion_control &&
exec "$@"`;

/** What the process that made this network has built; `undefined` in the machine's network. */
export function buildsFromOutside() {
  const builds = process.env[marker];
  return builds === undefined ? undefined : JSON.parse(builds);
}

/** Why there cannot be a network of our own, or `undefined`. */
export function noOwnNetwork() {
  const { error, status, stderr } = spawnSync('unshare', ['--net', 'sh', '-c', script, 'sh', 'true'], {
    encoding: 'utf8',
  });
  return error?.message ?? (status === 0 ? undefined : stderr.trim());
}

/** Runs this program again in a network of its own; resolves with its exit status. */
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
    // Ctrl-C reaches the child by itself, `kill` does not; either way it is the child that ends first.
    process.removeAllListeners(signal).on(signal, () => child.kill(signal));
  }
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve(code ?? 1));
  });
}
