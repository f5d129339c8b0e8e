import { readdirSync, readFileSync } from 'node:fs';

/** `USER_HZ`, in which the kernel reports times to user space on every CPU that Node runs on. */
const ticksPerSecond = 100;

/**
 * What a relay has used since it started and holds now, of all its threads and, for a relay that forks, all its
 * children.
 */
export function sample(pid) {
  const own = readStat(pid);
  const total = {
    scheduled: 0,
    // Children that are gone count where their parent has waited for them.
    user: own.childUser,
    system: own.childSystem,
    childFaults: own.childFaults,
    switches: 0,
    rss: 0,
    descriptors: 0,
  };
  addProcess(total, pid, residentMemory);
  return total;
}

/** The use between two samples, in seconds. */
export function difference(before, after) {
  const user = after.user - before.user;
  const system = after.system - before.system;
  const scheduled = after.scheduled - before.scheduled;
  return {
    // To the nanosecond, but without threads and children that have ended: then the one in ticks has more.
    cpu: user + system > scheduled + 0.02 ? user + system : scheduled,
    user,
    system,
    // Lost with a child that has ended.
    switches: after.childFaults === before.childFaults ? after.switches - before.switches : undefined,
    rss: after.rss,
    descriptors: after.descriptors,
  };
}

/** How many bytes a process and its children, also those it has waited for, have had fetched from storage. */
export function fetched(pid) {
  let bytes = Number(/^read_bytes: (\d+)$/m.exec(read(pid, 'io'))?.[1] ?? 0);
  for (const child of children(pid)) bytes += fetched(child);
  return bytes;
}

/** A process and all that it has forked and that still live. */
export function family(pid) {
  return [pid, ...children(pid).flatMap(family)];
}

function children(pid) {
  return list(`/proc/${pid}/task`).flatMap((thread) =>
    read(pid, `task/${thread}/children`).split(' ').filter(Boolean),
  );
}

function addProcess(total, pid, memory) {
  const { user, system } = readStat(pid);
  total.user += user;
  total.system += system;
  total.rss += memory(pid);
  total.descriptors += list(`/proc/${pid}/fd`).length;
  for (const thread of list(`/proc/${pid}/task`)) {
    total.scheduled += Number(read(pid, `task/${thread}/schedstat`).split(' ')[0]) / 1e9;
    const switches = read(pid, `task/${thread}/status`).matchAll(/ctxt_switches:\s+(\d+)/g);
    for (const [, count] of switches) total.switches += Number(count);
  }
  for (const child of children(pid)) addProcess(total, child, privateMemory);
}

function residentMemory(pid) {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(read(pid, 'status'))?.[1] ?? 0) * 1024;
}

/** What a child adds: the rest of it is resident already, in its parent. */
function privateMemory(pid) {
  let kilobytes = 0;
  for (const [, part] of read(pid, 'smaps_rollup').matchAll(/^Private_\w+:\s+(\d+) kB/gm)) {
    kilobytes += Number(part);
  }
  return kilobytes * 1024;
}

function readStat(pid) {
  // The name in parentheses may hold anything, so fields count from behind it; the first is number 3 in proc(5).
  const text = read(pid, 'stat');
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const field = (number) => Number(fields[number - 3] ?? 0);
  const seconds = (number) => field(number) / ticksPerSecond;
  return {
    user: seconds(14),
    system: seconds(15),
    childUser: seconds(16),
    childSystem: seconds(17),
    // More than 0 with the first child that has ended.
    childFaults: field(11),
  };
}

/** Empty for what ended between being listed and being read. */
function read(pid, name) {
  try {
    return readFileSync(`/proc/${pid}/${name}`, 'utf8');
  } catch (error) {
    if (error.code === 'ENOENT' || error.code === 'ESRCH') return '';
    throw error;
  }
}

function list(directory) {
  try {
    return readdirSync(directory);
  } catch (error) {
    if (error.code === 'ENOENT' || error.code === 'ESRCH') return [];
    throw error;
  }
}
