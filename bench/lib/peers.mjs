// Finds, starts and stops peers.
import { connect, createServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { root, StepError } from '../../scripts/lib/run.mjs';
import { Child, listeningPort } from './children.mjs';
import { Copying } from './copying.mjs';
import { ours, oursReadingAndWriting } from './our-peers.mjs';
import { others } from './peer-list.mjs';
import { notInstalled, output } from './surroundings.mjs';

/** Throws if the settings name a user or peers that do not exist, or peers that need more workers. */
export function checkPeers({ peers: names, user, workers, checkout }) {
  asUser(user);
  const choice = choiceOf(checkout);
  const known = ['fdsplice', ...choice.map(({ name }) => name)];
  const unknown = (names ?? []).filter((name) => !known.includes(name));
  if (unknown.length > 0) {
    throw new StepError(`--peers ${unknown}: there is ${known.join(', ')}`);
  }
  const unsuited = choice.find((peer) => names?.includes(peer.name) && !suits(peer, workers));
  if (unsuited !== undefined) {
    throw new StepError(`--peers ${unsuited.name} needs --workers ${unsuited.leastWorkers} or more`);
  }
}

/** Every peer except ours and the baseline, which are in each run. */
function choiceOf(checkout) {
  return [oursReadingAndWriting(checkout), ...others];
}

function suits({ leastWorkers = 0 }, workers = 0) {
  return workers >= leastWorkers;
}

/** The chosen peers, ours first; `missing` has the reason why a peer cannot be measured. */
export function findPeers(settings, builds) {
  const { peers: names, user, workers, checkout, baseline } = settings;
  checkPeers(settings);
  const choice = choiceOf(checkout);
  const chosen = [
    ours('fdsplice', 'this package', checkout),
    ...(baseline === undefined ? [] : [ours('baseline', 'this package, another build', baseline)]),
    ...choice.filter((peer) => suits(peer, workers) && (names?.includes(peer.name) ?? true)),
  ];
  return chosen.map((peer) => {
    const missing = peer.build ? builds[peer.build] : (notInstalled(peer.program) ?? peer.obstacle?.());
    return { ...peer, missing, version: missing ? undefined : peer.version(), user, workers };
  });
}

/** Whether a peer takes part in a case. */
export function takesPart({ roles, works, suits }, work) {
  const { work: kind, role = 'relay' } = work;
  return role in roles && (works?.includes(kind) ?? true) && (suits?.(work) ?? true);
}

/** Starts a peer in the role of the case; resolves when it accepts. `target` is the origin. */
export async function startPeer({ name, roles, silent, user, workers }, work, target) {
  const role = work.role ?? 'relay';
  const wanted = silent ? await freePort() : 0;
  const command = roles[role]({ listen: `127.0.0.1:${wanted}`, target, workers, ...work.settings });
  const line = [...asUser(work.user ?? user), ...command];
  const child = new Child(name, line[0], line.slice(1), { cwd: root });
  const peer = { pid: child.pid, complaint: () => child.complaint, stop: () => child.stop() };
  try {
    if (role === 'copies') {
      await child.line(10);
      return { ...peer, load: (args) => new Copying(child, work.settings, args) };
    }
    const port = silent ? await accepting(child, wanted) : await listeningPort(child);
    return { ...peer, port };
  } catch (error) {
    await child.stop();
    throw error;
  }
}

/** The prefix that runs a command as a user. `setpriv` executes the relay in its own process, so the child is the relay. */
function asUser(user) {
  if (!user) return [];
  const group = output('id', ['-g', user]);
  if (!group) throw new StepError(`there is no user ${user}`);
  return ['setpriv', `--reuid=${user}`, `--regid=${group}`, '--clear-groups', '--'];
}

export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve, reject) => server.on('listening', resolve).on('error', reject));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Waits until the port accepts connections, for programs that do not print it. */
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
