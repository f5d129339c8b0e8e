// The list of peers: their commands for each role, the works they take part in, and their versions.
import { existsSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../../scripts/lib/run.mjs';
import { haproxyConfiguration } from './haproxy.mjs';
import { filesConfiguration, limitedConfiguration, streamModule } from './nginx.mjs';
import { output, scratch } from './surroundings.mjs';
import { MiB } from './units.mjs';

const compiled = join(root, 'target/bench-peers');
const noLimiter = 'has no rate limiter';
/** Works with independent programs, which need a complete relay. */
const independentWorks = ['iperf3', 'wrk', 'curl'];

/**
 * All peers except ours. `roles` has the command for each role: `relay` and `limited` take `listen` and `target`, `files` takes
 * `listen` and `directory`, `copies` takes `from` and `to`. `works` and `suits` restrict the cases of a peer. `without` has the
 * reason why a peer lacks a role. A `silent` peer does not print its port, so it gets one. `program` has to be installed,
 * `build` has to be built. A peer with `leastWorkers` exists only
 * if `--workers` is at least that.
 */
export const others = [
  bare(
    'floor',
    'bulk: splice to /dev/null and sendfile from a memfd; files: sendfile; copies: copy_file_range',
    {
      relay: bulk('floor'),
      files: ({ listen, directory }) => [built('floor-files'), '--listen', listen, '--directory', directory],
      copies: ({ from, to }) => [built('floor-copies'), '--from', from, '--to', to],
    },
    ['bulk', 'files', 'copies'],
  ),
  bare(
    'floor-half',
    'bulk: only receives the bytes that go up, only sends those that go down',
    {
      relay: bulk('floor-half'),
    },
    ['bulk'],
  ),
  bare(
    'bare-splice',
    'blocking splice, pipes of 1 MiB, a thread for each direction',
    {
      relay: bulk('bare-splice'),
    },
    ['bulk', 'mixed', 'crossover'],
  ),
  bare(
    'bare-rw',
    'blocking read and write, 64 KiB buffers, a thread for each direction',
    {
      relay: bulk('bare-rw'),
    },
    ['pingpong', 'churn', 'mixed', 'crossover'],
  ),
  ...oursInRust('fdsplice-rust', 'fdsplice::relay of the Rust core on tokio sockets by value'),
  ...oursInRust('fdsplice-rust-borrowed', 'fdsplice::relay on borrowed tokio sockets'),
  ...oursInRust('fdsplice-rust-owned', 'fdsplice::relay on owned descriptors, which it inspects'),
  rust('tokio-copy-8', 'tokio copy_bidirectional, 8 KiB buffers', 'tokio'),
  rust('tokio-copy-64', 'tokio copy_bidirectional, 64 KiB buffers', 'tokio', [...relayWorks(), 'crossover']),
  rust('tokio-splice2', 'tokio_splice2::copy_bidirectional', 'tokio-splice2', [...relayWorks(), 'crossover']),
  rust('tokio-splice', 'tokio_splice::zero_copy_bidirectional', 'tokio-splice'),
  {
    name: 'go-copy',
    about: 'Go io.Copy both ways',
    build: 'go',
    version: goVersion,
    roles: {
      relay: ({ listen, target, workers }) => [
        ...[...goThreads(workers), join(compiled, 'go-copy'), '--listen', listen, '--target', target],
      ],
    },
    works: relayWorks(),
    without: { limited: noLimiter },
  },
  node('pipe', 'Node socket.pipe both ways'),
  node('pipeline', 'Node stream.pipeline through both and back'),
  haproxy('haproxy-splice', 'HAProxy, tcp mode, splice-request and splice-response', [
    'option splice-request',
    'option splice-response',
  ]),
  haproxy('haproxy-auto', 'HAProxy, tcp mode, splice-auto', ['option splice-auto']),
  haproxy('haproxy-copy', 'HAProxy, tcp mode, no splice option', []),
  {
    name: 'socat',
    about: 'socat -b 65536, one process per connection',
    version: () => /socat version \S+/.exec(output('socat', ['-V']) ?? '')?.[0],
    program: 'socat',
    roles: {
      relay: ({ listen, target }) => [
        ...['socat', '-t', '10', '-b', '65536'],
        `TCP-LISTEN:${listen.split(':')[1]},bind=${listen.split(':')[0]},fork,reuseaddr,nodelay,backlog=1024`,
        `TCP:${target},nodelay`,
      ],
    },
    works: relayWorks(),
    without: { limited: noLimiter },
    silent: true,
  },
  nginx(
    'nginx-stream',
    'nginx stream proxy, each connection limited to its share in each direction',
    {
      limited: ({ listen, target, workers, bytesPerSecond, streams }) =>
        configured('nginx-stream', limitedConfiguration, {
          ...{ listen, target, workers },
          bytesPerSecond: Math.floor(bytesPerSecond / streams),
        }),
    },
    () => (existsSync(streamModule) ? undefined : `${streamModule} is not installed`),
  ),
  nginx('nginx', 'nginx, sendfile on, tcp_nopush on', {
    files: ({ listen, directory, workers }) =>
      configured('nginx', filesConfiguration, { listen, directory, workers }),
  }),
  {
    name: 'go-files',
    about: 'Go http.ServeContent',
    build: 'go',
    version: goVersion,
    roles: {
      files: ({ listen, directory, workers }) => [
        ...[...goThreads(workers), join(compiled, 'go-files')],
        ...['--listen', listen, '--directory', directory],
      ],
    },
  },
  nodeFiles('stream-64', 'Node createReadStream().pipe(response), 64 KiB', 'pipe-64'),
  nodeFiles('stream-1024', 'Node createReadStream().pipe(response), 1 MiB', 'pipe-1024'),
  {
    ...nodeFiles('send', 'the npm package send', 'send'),
    version: () =>
      `send ${JSON.parse(readFileSync(join(root, 'node_modules/send/package.json'), 'utf8')).version}, ${nodeVersion()}`,
  },
  {
    ...nodeFiles(
      'memory',
      'Node response.end of a file kept in memory: the cost of Node HTTP alone',
      'memory',
    ),
    suits: ({ size, evict }) => size <= MiB && !evict,
  },
  {
    name: 'copyFile',
    about: 'Node fs.promises.copyFile',
    version: nodeVersion,
    roles: { copies: nodeCopies('copyFile') },
  },
  {
    name: 'cp',
    about: 'cp of the coreutils, a process for each file',
    version: () => output('cp', ['--version'])?.split('\n')[0],
    program: 'cp',
    roles: { copies: ({ from, to }) => ['sh', '-c', cpLoop, from, to] },
  },
];

/** This package, as it is built in a checkout. */
export function ours(name, about, checkout) {
  const which = checkout === undefined ? [] : ['--package', checkout];
  const relay = ({ listen, target }) => [
    ...script('fdsplice', which),
    '--listen',
    listen,
    '--target',
    target,
  ];
  return {
    name,
    about,
    version: () => ourVersion(checkout ?? root),
    roles: {
      relay,
      limited: (settings) => [...relay(settings), '--rate-limit', `${settings.bytesPerSecond}`],
      files: ({ listen, directory }) => [
        ...script('files', which),
        ...['--with', 'ours', '--listen', listen, '--directory', directory],
      ],
      copies: nodeCopies('ours', which),
    },
  };
}

/** Our relay with splice switched off. */
export function oursReadingAndWriting(checkout) {
  const { version, roles } = ours('', '', checkout);
  const withOption = (command) => (settings) => [...command(settings), '--read-write'];
  return {
    name: 'fdsplice-rw',
    about: 'relay of this package, zeroCopy: false',
    version,
    roles: { relay: withOption(roles.relay), limited: withOption(roles.limited) },
    works: ['bulk', 'crossover', 'limited'],
  };
}

function relayWorks() {
  return ['bulk', 'pingpong', 'churn', 'idle', 'mixed', ...independentWorks];
}

const cpLoop = `echo ready
while read -r count; do
  index=0
  while [ $index -lt $count ]; do
    cp "$0/$index" "$1/$index" || exit
    index=$((index + 1))
  done
  echo done
done`;

function script(name, args) {
  return [process.execPath, join(root, `bench/peers/node/${name}.mjs`), ...args];
}

function node(name, about) {
  const relay = ({ listen, target }) => [...script(name, []), '--listen', listen, '--target', target];
  return {
    ...{ name, about, version: nodeVersion, roles: { relay }, works: relayWorks() },
    without: { limited: noLimiter },
  };
}

function nodeFiles(name, about, sender) {
  const files = ({ listen, directory }) => [
    ...script('files', ['--with', sender]),
    ...['--listen', listen, '--directory', directory],
  ];
  return { name, about, version: nodeVersion, roles: { files } };
}

function nodeCopies(copier, which = []) {
  return ({ from, to }) => [...script('copies', which), '--with', copier, '--from', from, '--to', to];
}

function built(name) {
  return join(compiled, 'release', name);
}

function bulk(name) {
  return ({ listen, target }) => [built(name), '--listen', listen, '--target', target];
}

function rust(name, about, crate, works = relayWorks()) {
  return {
    ...{ name, about, build: 'rust', version: () => lockedVersion(crate), works },
    roles: { relay: threaded(name) },
    without: { limited: noLimiter },
  };
}

/** Our own core without Node, and the same with a runtime for each worker: a connection stays with the one that accepted it. */
function oursInRust(name, about) {
  const peer = rust(name, about, 'fdsplice');
  const version = () => [peer.version(), revision(root)].filter(Boolean).join(', ');
  const alone = { ...peer, version, without: { limited: 'limits as `fdsplice` does' } };
  const pinned = {
    ...alone,
    name: `${name}-pinned`,
    about: `${about}; a runtime for each worker`,
    roles: { relay: (settings) => [...peer.roles.relay(settings), '--pinned'] },
    leastWorkers: 2,
  };
  return [alone, pinned];
}

/** The command of a relay on tokio, which takes the number of its threads. */
function threaded(name) {
  return ({ listen, target, workers }) => [
    ...[built(name), '--listen', listen, '--target', target],
    ...(workers === undefined ? [] : ['--workers', `${workers}`]),
  ];
}

/** The prefix that bounds the threads that run Go code. `env` executes the program in its own process. */
function goThreads(workers) {
  return workers === undefined ? [] : ['env', `GOMAXPROCS=${workers}`];
}

function bare(name, about, roles, works) {
  return { name, about, build: 'rust', version: () => lockedVersion('rustix'), roles, works };
}

function haproxy(name, about, options) {
  return {
    name,
    about,
    program: 'haproxy',
    version: () => output('haproxy', ['-v'])?.split(' ').slice(0, 3).join(' '),
    roles: {
      relay: ({ listen, target, workers }) => {
        const file = join(scratch(), `${name}.cfg`);
        writeFileSync(file, haproxyConfiguration({ listen, target, workers, options }));
        return ['haproxy', '-db', '-f', file];
      },
    },
    works: relayWorks(),
    without: { limited: 'has no limiter before HAProxy 2.7, and its bwlim filters are not used here' },
    silent: true,
  };
}

function nginx(name, about, roles, obstacle) {
  return {
    ...{ name, about, roles, program: 'nginx', obstacle, silent: true },
    // nginx prints its version to stderr.
    version: () => output('sh', ['-c', 'nginx -v 2>&1'])?.replace('nginx version: ', ''),
  };
}

function configured(name, configuration, settings) {
  const directory = scratch(name);
  const file = join(directory, 'nginx.conf');
  writeFileSync(file, configuration({ ...settings, scratch: directory }));
  // Without -e nginx opens a log that only root may write to.
  return ['nginx', '-e', 'stderr', '-p', directory, '-c', file];
}

function ourVersion(checkout) {
  const { name, version } = JSON.parse(readFileSync(join(checkout, 'package.json'), 'utf8'));
  const binary = readdirSync(checkout).find((file) => file.endsWith('.node'));
  const when = binary && statSync(join(checkout, binary)).mtime.toISOString().slice(0, 16);
  return [`${name} ${version}`, revision(checkout), when && `built ${when}`, nodeVersion()]
    .filter(Boolean)
    .join(', ');
}

function revision(checkout) {
  return output('git', ['-C', checkout, 'describe', '--always', '--dirty']);
}

function nodeVersion() {
  return `Node ${process.version}`;
}

function goVersion() {
  return output('go', ['version']);
}

function lockedVersion(crate) {
  const lock = readFileSync(join(root, 'bench/peers/rust/Cargo.lock'), 'utf8');
  const version = new RegExp(`name = "${crate}"\\nversion = "(.+)"`).exec(lock)?.[1];
  return `${crate} ${version}`;
}
