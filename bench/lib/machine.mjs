// The description of the machine in the results.
import { readFileSync } from 'node:fs';
import { availableParallelism, cpus, loadavg, release, totalmem, userInfo } from 'node:os';

const settings = [
  'fs/pipe-max-size',
  'fs/pipe-user-pages-soft',
  'fs/pipe-user-pages-hard',
  'net/ipv4/tcp_rmem',
  'net/ipv4/tcp_wmem',
  'net/ipv4/tcp_congestion_control',
];

/** The properties of the machine on which the figures depend. */
export function describeMachine() {
  return {
    processor: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    memory: totalmem(),
    kernel: release(),
    distribution: /^PRETTY_NAME="(.*)"$/m.exec(read('/etc/os-release'))?.[1] ?? 'unknown',
    user: userInfo().username,
    openFiles: Number(/^Max open files\s+(\d+)/m.exec(read('/proc/self/limits'))?.[1]),
    loadBefore: loadavg()[0],
    settings: Object.fromEntries(
      settings.map((name) => [
        name.replaceAll('/', '.'),
        read(`/proc/sys/${name}`).trim().replaceAll('\t', ' '),
      ]),
    ),
  };
}

function read(file) {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if (error.code === 'ENOENT') return '';
    throw error;
  }
}
