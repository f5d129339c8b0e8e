// Runs one case against all its peers and takes the figures of each round.
import { setTimeout as delay } from 'node:timers/promises';
import { Load } from './load.mjs';
import { startPeer, takesPart } from './peers.mjs';
import { Counting } from './perf.mjs';
import { difference, family, fetched, sample } from './proc.mjs';

/** Milliseconds for a relay to finish work that the load does not wait for, such as closing and garbage collection. */
const settling = 50;

/**
 * Runs one case against every peer that takes part: a discarded warm-up, then the rounds. In each round every peer has one turn; the
 * order rotates. Rounds that do not fit into `seconds` are skipped; in the first round, the peers whose turn comes last. `absent`
 * has the reasons of peers that have no figures. The result's `peers` are those with a part in the case, missing ones included.
 */
export async function runCase({ work, peers: all, origin, counters, rounds: wanted, seconds }) {
  const players = all.filter((peer) => takesPart(peer, work));
  const peers = players.filter(({ missing }) => missing === undefined);
  const absent = Object.fromEntries(
    all.flatMap(({ name, without }) => (without?.[work.role] ? [[name, without[work.role]]] : [])),
  );
  const started = performance.now();
  const elapsed = () => (performance.now() - started) / 1000;
  const rounds = [];
  const relays = new Map();
  const attempt = async (peer, round, count) => {
    if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${work.name}: ${round}, ${peer.name}`);
    try {
      if (!relays.has(peer.name)) relays.set(peer.name, await warmRelay(peer, work, origin));
      return await measure(relays.get(peer.name), work, count);
    } catch (error) {
      // The relay may be in any state: the next round starts a new one.
      await relays.get(peer.name)?.stop();
      relays.delete(peer.name);
      return { error: error.message };
    } finally {
      if (work.fresh) {
        await relays.get(peer.name)?.stop();
        relays.delete(peer.name);
      }
    }
  };
  try {
    work.prepare?.();
    const timed = counters.instructions.available ? 'instructions' : undefined;
    let needed = 0;
    for (let round = 0; round < wanted && (round === 0 || elapsed() + needed <= seconds); round += 1) {
      const before = elapsed();
      const first = round % peers.length;
      for (const peer of [...peers.slice(first), ...peers.slice(0, first)]) {
        if (round === 0 && rounds.length > 0 && elapsed() > seconds) {
          absent[peer.name] = 'out of time';
          continue;
        }
        const figures = await attempt(peer, `round ${round + 1} of ${wanted}`, timed);
        rounds.push({ round, peer: peer.name, ...figures });
      }
      // Time for one more round, and for the one that counts system calls. The first round included the warm-ups.
      needed = (round === 0 ? 1 : 1.6) * (elapsed() - before);
    }
    // A separate round, of which no other figure is kept: the tracepoint slows every system call.
    if (counters.systemCalls.available) {
      for (const peer of peers.filter(({ name }) => !(name in absent))) {
        if (elapsed() > seconds) break;
        const { systemCalls, error } = await attempt(peer, 'system calls', 'systemCalls');
        const round = rounds.find((round) => round.peer === peer.name);
        if (error === undefined) round.systemCalls = systemCalls;
      }
    }
  } finally {
    if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
    for (const relay of relays.values()) await relay.stop();
  }
  const { name, title, per, connections, size } = work;
  const named = players.map((peer) => peer.name);
  return { work: work.work, name, title, per, connections, size, peers: named, absent, rounds };
}

async function warmRelay(peer, work, origin) {
  const relay = await startPeer(peer, work, origin);
  try {
    await runLoad(relay, work.warmUp);
  } catch (error) {
    await relay.stop();
    throw error;
  }
  await delay(settling);
  return relay;
}

/** One run of the load; calls `onReady` and `onDone` before and after the work itself. */
async function runLoad(relay, args, { onReady, onDone } = {}) {
  const load = relay.load?.(args) ?? new Load(relay.port, args);
  try {
    await load.ready();
    await onReady?.();
    const result = await load.work();
    await onDone?.(result);
    await load.close();
    return result;
  } catch (error) {
    const complaint = relay.complaint();
    throw new Error(complaint ? `${error.message} (the relay: ${complaint})` : error.message, {
      cause: error,
    });
  } finally {
    await load.stop();
  }
}

/** One measurement of the relay alone, with all figures per unit of work. `count` names the events for `perf`. */
async function measure(relay, work, count) {
  work.evict?.();
  const cold = work.evict && fetched(relay.pid);
  const counting = count && (await Counting.attach(family(relay.pid), count));
  let empty, before, after, counted;
  try {
    empty = sample(relay.pid);
    const result = await runLoad(relay, work.args, {
      async onReady() {
        await delay(settling);
        before = sample(relay.pid);
        await counting?.begin();
      },
      async onDone() {
        await delay(settling);
        counted = await counting?.end();
        after = sample(relay.pid);
      },
    });
    if (work.evict) checkCold(fetched(relay.pid) - cold, result.bytes);
    return figures({ work, result, empty, before, after, counted });
  } finally {
    await counting?.stop();
  }
}

/** Fails if less than 90 % of the bytes came from storage: then the page cache was not cold. */
function checkCold(fromStorage, bytes) {
  const part = fromStorage / bytes;
  if (part < 0.9)
    throw new Error(`the cache was not cold: only ${(100 * part).toFixed(0)} % came from storage`);
}

function figures({ work, result, empty, before, after, counted = {} }) {
  const units = work.units(result);
  const used = difference(before, after);
  const { 'instructions:u': user, 'instructions:k': kernel, 'raw_syscalls:sys_enter': calls } = counted;
  const active = result.active ?? result;
  return {
    units,
    seconds: result.seconds,
    cpu: used.cpu / units,
    cpuUser: used.user / units,
    cpuSystem: used.system / units,
    ...(used.switches === undefined ? {} : { switches: used.switches / units }),
    ...(user === undefined
      ? {}
      : {
          instructions: (user + kernel) / units,
          instructionsUser: user / units,
          instructionsKernel: kernel / units,
        }),
    ...(calls === undefined ? {} : { systemCalls: calls / units }),
    rate: units / result.seconds,
    ...work.extra?.(result),
    latency: active.microseconds,
    rss: used.rss,
    descriptors: used.descriptors,
    ...(work.connections === undefined
      ? {}
      : {
          rssPerConnection: (before.rss - empty.rss) / work.connections,
          descriptorsPerConnection: (before.descriptors - empty.descriptors) / work.connections,
        }),
  };
}
