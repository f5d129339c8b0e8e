import { setTimeout as delay } from 'node:timers/promises';
import { Load } from './load.mjs';
import { startPeer } from './peers.mjs';
import { Counting } from './perf.mjs';
import { difference, sample } from './proc.mjs';

/** How long a relay gets to finish what the load no longer waits for: closing, garbage. */
const settling = 50;

/**
 * One case against every peer: a warm-up that is thrown away, then the rounds, in each of which every peer has its turn,
 * in an order that rotates. Rounds that would not fit into `seconds` are left out, but the first.
 */
export async function runCase({ work, peers, origin, counters, rounds: wanted, seconds }) {
  const started = performance.now();
  const elapsed = () => (performance.now() - started) / 1000;
  const rounds = [];
  const relays = new Map();
  const attempt = async (peer, round, how) => {
    if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${work.name}: ${round}, ${peer.name}`);
    try {
      if (!relays.has(peer.name)) relays.set(peer.name, await warmRelay(peer, work, origin));
      return await measure(relays.get(peer.name), work, how);
    } catch (error) {
      // Whatever state it is in, the next round begins with a new one.
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
    const timed = counters.instructions.available ? 'instructions' : undefined;
    let needed = 0;
    for (let round = 0; round < wanted && (round === 0 || elapsed() + needed <= seconds); round += 1) {
      const before = elapsed();
      const first = round % peers.length;
      for (const peer of [...peers.slice(first), ...peers.slice(0, first)]) {
        const figures = await attempt(peer, `round ${round + 1} of ${wanted}`, timed);
        rounds.push({ round, peer: peer.name, ...figures });
      }
      // One more, and the one that counts system calls; the first had the warm-ups in it.
      needed = (round === 0 ? 1 : 1.6) * (elapsed() - before);
    }
    // In a round of its own, of which nothing else is kept: the tracepoint slows every system call.
    if (counters.systemCalls.available) {
      for (const peer of peers) {
        const { systemCalls, error } = await attempt(peer, 'system calls', 'systemCalls');
        const round = rounds.find((round) => round.peer === peer.name);
        if (error === undefined) round.systemCalls = systemCalls;
      }
    }
  } finally {
    if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
    for (const relay of relays.values()) await relay.stop();
  }
  const { name, title, per, connections } = work;
  return { work: work.work, name, title, per, connections, rounds };
}

async function warmRelay(peer, work, origin) {
  const relay = await startPeer(peer, origin);
  try {
    await runLoad(relay, work.warmUp);
  } catch (error) {
    await relay.stop();
    throw error;
  }
  await delay(settling);
  return relay;
}

/** One run of the load; `onReady` and `onDone` are called around the work itself. */
async function runLoad(relay, args, { onReady, onDone } = {}) {
  const load = new Load(relay.port, args);
  try {
    await load.ready();
    await onReady?.();
    const result = await load.work();
    await onDone?.(result);
    await load.close();
    return result;
  } catch (error) {
    const said = relay.complaint();
    throw new Error(said ? `${error.message} (the relay: ${said})` : error.message, { cause: error });
  } finally {
    await load.stop();
  }
}

/** One measurement of the relay alone, everything per unit of work. `count` says what `perf` is to count. */
async function measure(relay, work, count) {
  const counting = count && (await Counting.attach(relay.pid, count));
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
    return figures({ work, result, empty, before, after, counted });
  } finally {
    await counting?.stop();
  }
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
