// CPU time, memory, switches and descriptors of a process tree, from /proc.
import { readdirSync, readFileSync } from 'node:fs';

/** `USER_HZ`, in which the kernel reports times to user space on every CPU that Node runs on. */
const ticksPerSecond = 100;

/**
 * The resources that a relay has used since its start and holds now: of all its threads and, if it forks, its children.
 */
export function sample(pid) {
  const own = readStat(pid);
  const total = {
    scheduled: 0,
    // Children that have ended are in their parent's account, once it has waited for them.
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
    // Exact to the nanosecond, but without ended threads and children. If some have ended, the sum in ticks is larger.
    cpu: user + system > scheduled + 0.02 ? user + system : scheduled,
    user,
    system,
    // Unknown if a child has ended.
    switches: after.childFaults === before.childFaults ? after.switches - before.switches : undefined,
    rss: after.rss,
    descriptors: after.descriptors,
  };
}

/** Bytes read from storage for a process and its children, including those it has waited for. */
export function fetched(pid) {
  let bytes = Number(/^read_bytes: (\d+)$/m.exec(read(pid, 'io'))?.[1] ?? 0);
  for (const child of children(pid)) bytes += fetched(child);
  return bytes;
}

/** A process and its living descendants. */
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

/** Private memory of a child; its other pages are counted in its parent. */
function privateMemory(pid) {
  let kilobytes = 0;
  for (const [, part] of read(pid, 'smaps_rollup').matchAll(/^Private_\w+:\s+(\d+) kB/gm)) {
    kilobytes += Number(part);
  }
  return kilobytes * 1024;
}

function readStat(pid) {
  // The name in parentheses may contain anything, so fields are counted after it. The first is number 3 in proc(5).
  const text = read(pid, 'stat');
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const field = (number) => Number(fields[number - 3] ?? 0);
  const seconds = (number) => field(number) / ticksPerSecond;
  return {
    user: seconds(14),
    system: seconds(15),
    childUser: seconds(16),
    childSystem: seconds(17),
    // Above 0 once a child has ended.
    childFaults: field(11),
  };
}

/** Empty if the process or thread has ended since it was listed. */
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
