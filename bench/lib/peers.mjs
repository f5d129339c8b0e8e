import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { root, StepError } from '../../scripts/lib/run.mjs';
import { Child, listeningPort } from './children.mjs';
import { haproxyConfiguration } from './haproxy.mjs';

const compiled = join(root, 'target/bench-peers');

const others = [
  rust('tokio-copy-8', 'tokio copy_bidirectional, 8 KiB buffers', 'tokio'),
  rust('tokio-copy-64', 'tokio copy_bidirectional, 64 KiB buffers', 'tokio'),
  rust('tokio-splice2', 'tokio_splice2::copy_bidirectional', 'tokio-splice2'),
  rust('tokio-splice', 'tokio_splice::zero_copy_bidirectional', 'tokio-splice'),
  {
    name: 'go-copy',
    about: 'Go io.Copy both ways',
    build: 'go',
    version: () => output('go', ['version']),
    command: (listen, target) => [join(compiled, 'go-copy'), '--listen', listen, '--target', target],
  },
  node('pipe', 'Node socket.pipe both ways', nodeVersion),
  node('pipeline', 'Node stream.pipeline through both and back', nodeVersion),
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
    command: (listen, target) => [
      ...['socat', '-t', '10', '-b', '65536'],
      `TCP-LISTEN:${listen.split(':')[1]},bind=${listen.split(':')[0]},fork,reuseaddr,nodelay,backlog=1024`,
      `TCP:${target},nodelay`,
    ],
    silent: true,
  },
];

/** This package, or another built checkout of it. */
function ours(name, about, checkout) {
  const file = join(root, 'bench/peers/node/fdsplice.mjs');
  const which = checkout === undefined ? [] : ['--package', checkout];
  return {
    name,
    about,
    version: () => ourVersion(checkout ?? root),
    command: (listen, target) => [process.execPath, file, ...which, '--listen', listen, '--target', target],
  };
}

function node(name, about, version) {
  const file = join(root, `bench/peers/node/${name}.mjs`);
  const command = (listen, target) => [process.execPath, file, '--listen', listen, '--target', target];
  return { name, about, version, command };
}

function rust(name, about, crate) {
  const command = (listen, target) => [
    join(compiled, 'release', name),
    ...['--listen', listen, '--target', target],
  ];
  return { name, about, build: 'rust', version: () => lockedVersion(crate), command };
}

function haproxy(name, about, options) {
  return {
    name,
    about,
    program: 'haproxy',
    version: () => output('haproxy', ['-v'])?.split(' ').slice(0, 3).join(' '),
    command: (listen, target) => {
      const file = join(scratch(), `${name}.cfg`);
      writeFileSync(file, haproxyConfiguration(listen, target, options));
      return ['haproxy', '-db', '-f', file];
    },
    silent: true,
  };
}

/** All peers asked for, ours first; `missing` says why one cannot be measured. */
export function findPeers({ peers: names, user, checkout, baseline }, builds) {
  const known = ['fdsplice', ...others.map(({ name }) => name)];
  const unknown = (names ?? []).filter((name) => !known.includes(name));
  const prefix = asUser(user);
  if (unknown.length > 0) {
    throw new StepError(`--peers ${unknown}: there is ${known.join(', ')}`);
  }
  const chosen = [
    ours('fdsplice', 'relay of this package', checkout),
    ...(baseline === undefined ? [] : [ours('baseline', 'relay of this package, another build', baseline)]),
    ...others.filter(({ name }) => names?.includes(name) ?? true),
  ];
  return chosen.map((peer) => {
    const missing = peer.build ? builds[peer.build] : notInstalled(peer.program);
    return { ...peer, missing, version: missing ? undefined : peer.version(), prefix };
  });
}

/** Starts a relay to `target`; resolves when it accepts. */
export async function startPeer({ name, command, silent, prefix }, target) {
  const wanted = silent ? await freePort() : 0;
  const line = [...prefix, ...command(`127.0.0.1:${wanted}`, target)];
  const child = new Child(name, line[0], line.slice(1), { cwd: root });
  try {
    const port = silent ? await accepting(child, wanted) : await listeningPort(child);
    return { pid: child.pid, port, complaint: () => child.complaint, stop: () => child.stop() };
  } catch (error) {
    await child.stop();
    throw error;
  }
}

/** `setpriv` changes to the relay in its place, so that the child is the relay. */
function asUser(user) {
  if (!user) return [];
  const group = output('id', ['-g', user]);
  if (!group) throw new StepError(`there is no user ${user}`);
  return ['setpriv', `--reuid=${user}`, `--regid=${group}`, '--clear-groups', '--'];
}

let scratchDirectory;

/** A directory for what peers have to read, removed at the end. */
function scratch() {
  if (scratchDirectory === undefined) {
    scratchDirectory = mkdtempSync(join(tmpdir(), 'fdsplice-bench-'));
    // The peers may run as another user.
    chmodSync(scratchDirectory, 0o755);
    process.on('exit', () => rmSync(scratchDirectory, { recursive: true, force: true }));
  }
  return scratchDirectory;
}

export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve, reject) => server.on('listening', resolve).on('error', reject));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Waits until something accepts on the port: for programs that do not say so. */
export async function accepting(child, port) {
  for (let tries = 0; tries < 100 && child.how === undefined; tries += 1) {
    const accepted = await new Promise((resolve) => {
      const probe = connect(port, '127.0.0.1', () => resolve(true)).on('error', () => resolve(false));
      probe.on('connect', () => probe.destroy());
    });
    if (accepted) return port;
    await delay(50);
  }
  throw new Error(`${child.name}: ${child.complaint || (child.how ?? 'does not accept')}`);
}

function notInstalled(program) {
  if (!program) return undefined;
  const { status } = spawnSync('sh', ['-c', `command -v ${program}`]);
  return status === 0 ? undefined : `${program} is not installed`;
}

function output(command, args) {
  const { status, stdout } = spawnSync(command, args, { encoding: 'utf8' });
  return status === 0 ? stdout.trim() : undefined;
}

function ourVersion(checkout) {
  const { name, version } = JSON.parse(readFileSync(join(checkout, 'package.json'), 'utf8'));
  const binary = readdirSync(checkout).find((file) => file.endsWith('.node'));
  const built = binary && statSync(join(checkout, binary)).mtime.toISOString().slice(0, 16);
  const revision = output('git', ['-C', checkout, 'describe', '--always', '--dirty']);
  return [`${name} ${version}`, revision, built && `built ${built}`, nodeVersion()]
    .filter(Boolean)
    .join(', ');
}

function nodeVersion() {
  return `Node ${process.version}`;
}

function lockedVersion(crate) {
  const lock = readFileSync(join(root, 'bench/peers/rust/Cargo.lock'), 'utf8');
  const version = new RegExp(`name = "${crate}"\\nversion = "(.+)"`).exec(lock)?.[1];
  return `${crate} ${version}`;
}
