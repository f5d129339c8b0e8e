// The kinds of peers: their commands by language and program, and their versions.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../../scripts/lib/run.mjs';
import { haproxyConfiguration, MAX_CONNECTIONS } from './haproxy.mjs';
import { output, scratch } from './surroundings.mjs';

export const compiled = join(root, 'target/bench-peers');
export const noLimiter = 'has no rate limiter';
/** Works with independent programs, which need a complete relay. */
const independentWorks = ['iperf3', 'wrk', 'curl'];

export function relayWorks() {
  return ['bulk', 'pingpong', 'churn', 'idle', 'mixed', ...independentWorks];
}

export function script(name, args) {
  return [process.execPath, join(root, `bench/peers/node/${name}.mjs`), ...args];
}

export function node(name, about) {
  const relay = ({ listen, target }) => [...script(name, []), '--listen', listen, '--target', target];
  return {
    ...{ name, about, version: nodeVersion, roles: { relay }, works: relayWorks() },
    without: { limited: noLimiter },
  };
}

export function nodeFiles(name, about, sender) {
  const files = ({ listen, directory }) => [
    ...script('files', ['--with', sender]),
    ...['--listen', listen, '--directory', directory],
  ];
  return { name, about, version: nodeVersion, roles: { files } };
}

export function nodeCopies(copier, which = []) {
  return ({ from, to }) => [...script('copies', which), '--with', copier, '--from', from, '--to', to];
}

export function built(name) {
  return join(compiled, 'release', name);
}

export function bulk(name) {
  return ({ listen, target }) => [built(name), '--listen', listen, '--target', target];
}

export function rust(name, about, crate, works = relayWorks()) {
  return {
    ...{ name, about, build: 'rust', version: () => lockedVersion(crate), works },
    roles: { relay: threaded(name) },
    without: { limited: noLimiter },
  };
}

/** The command of a relay on tokio, which takes the number of its threads. */
export function threaded(name) {
  return ({ listen, target, workers }) => [
    ...[built(name), '--listen', listen, '--target', target],
    ...(workers === undefined ? [] : ['--workers', `${workers}`]),
  ];
}

/** The prefix that bounds the threads that run Go code. `env` executes the program in its own process. */
export function goThreads(workers) {
  return workers === undefined ? [] : ['env', `GOMAXPROCS=${workers}`];
}

export function bare(name, about, roles, works) {
  return { name, about, build: 'rust', version: () => lockedVersion('rustix'), roles, works };
}

export function haproxy(name, about, options) {
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
    // Its configuration holds no more: see haproxy.mjs.
    suits: ({ connections = 0 }) => connections <= MAX_CONNECTIONS,
    without: { limited: 'has no limiter before HAProxy 2.7, and its bwlim filters are not used here' },
    silent: true,
  };
}

export function nginx(name, about, roles, obstacle) {
  return {
    ...{ name, about, roles, program: 'nginx', obstacle, silent: true },
    // nginx prints its version to stderr.
    version: () => output('sh', ['-c', 'nginx -v 2>&1'])?.replace('nginx version: ', ''),
  };
}

export function configured(name, configuration, settings) {
  const directory = scratch(name);
  const file = join(directory, 'nginx.conf');
  writeFileSync(file, configuration({ ...settings, scratch: directory }));
  // Without -e nginx opens a log that only root may write to.
  return ['nginx', '-e', 'stderr', '-p', directory, '-c', file];
}

export function nodeVersion() {
  return `Node ${process.version}`;
}

export function goVersion() {
  return output('go', ['version']);
}

export function lockedVersion(crate) {
  const lock = readFileSync(join(root, 'bench/peers/rust/Cargo.lock'), 'utf8');
  const version = new RegExp(`name = "${crate}"\\nversion = "(.+)"`).exec(lock)?.[1];
  return `${crate} ${version}`;
}
export function revision(checkout) {
  return output('git', ['-C', checkout, 'describe', '--always', '--dirty']);
}
