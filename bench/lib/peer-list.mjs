// The list of peers: their commands for each role, the works they take part in, and their versions.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../../scripts/lib/run.mjs';
import { filesConfiguration, limitedConfiguration, streamModule } from './nginx.mjs';
import { oursInRust } from './our-peers.mjs';
import {
  bare,
  built,
  bulk,
  compiled,
  configured,
  goThreads,
  goVersion,
  haproxy,
  nginx,
  node,
  nodeCopies,
  nodeFiles,
  nodeVersion,
  noLimiter,
  relayWorks,
  rust,
} from './peer-kinds.mjs';
import { output } from './surroundings.mjs';
import { MiB } from './units.mjs';

/**
 * All peers except those that a checkout of this package has. `roles` has the command for each role: `relay` and `limited` take `listen` and `target`, `files` takes
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

const cpLoop = `echo ready
while read -r count; do
  index=0
  while [ $index -lt $count ]; do
    cp "$0/$index" "$1/$index" || exit
    index=$((index + 1))
  done
  echo done
done`;
