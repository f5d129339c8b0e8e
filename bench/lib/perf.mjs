// Counters of the kernel, read through `perf stat`: instructions and system calls.
import { spawnSync } from 'node:child_process';
import { Child } from './children.mjs';

const instructions = ['instructions:u', 'instructions:k'];
const systemCalls = ['raw_syscalls:sys_enter'];

/** The counters that `perf` can read on this machine, with the reason for each one that it cannot. */
export function probeCounters() {
  return { instructions: probe(instructions), systemCalls: probe(systemCalls) };
}

function probe(events) {
  const { error, stderr } = spawnSync('perf', ['stat', '-j', '-e', `${events}`, 'true'], {
    encoding: 'utf8',
  });
  if (error) return { available: false, reason: `perf cannot be run: ${error.message}` };
  const values = parse(stderr);
  const available = events.every((event) => Number.isFinite(values[event]));
  return available ? { available } : { available, reason: 'not supported' };
}

/** Counts events of processes, with their threads and children, between `begin` and `end`. */
export class Counting {
  #child;
  #control;
  #acknowledged;

  /** Attaches without counting yet. `kind` is `instructions` or `systemCalls`. */
  static async attach(pids, kind) {
    const counting = new Counting();
    const events = kind === 'instructions' ? instructions : systemCalls;
    const args = ['stat', '-j', '-D', '-1', '--control', 'fd:3,4', '-e', `${events}`, '-p', `${pids}`];
    counting.#child = new Child('perf', 'perf', args, { fds: ['pipe', 'pipe'] });
    counting.#control = counting.#child.process.stdio[3];
    counting.#acknowledged = counting.#child.process.stdio[4][Symbol.asyncIterator]();
    // perf acknowledges this once it has attached.
    await counting.#command('disable');
    return counting;
  }

  async begin() {
    await this.#command('enable');
  }

  /** Resolves with the count of each event. */
  async end() {
    await this.#command('disable');
    await this.#child.stop('SIGINT');
    return parse(this.#child.errors);
  }

  async stop() {
    await this.#child.stop('SIGINT');
  }

  async #command(command) {
    const ended = this.#child.ended.then((how) => {
      throw new Error(`perf: ${this.#child.errors || how}`);
    });
    // perf also ends after the last command, when nothing waits for it.
    ended.catch(() => {});
    this.#control.write(`${command}\n`);
    await Promise.race([this.#acknowledged.next(), ended]);
  }
}

function parse(text) {
  const values = {};
  for (const line of text.split('\n').filter((line) => line.startsWith('{'))) {
    const { event, 'counter-value': value } = JSON.parse(line);
    values[event] = Number(value);
  }
  return values;
}
