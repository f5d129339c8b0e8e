// The child processes of the demo.
import { execFileSync, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { StepError } from '../lib/run.mjs';

const running = new Set();

process.on('exit', killAll);

/** Kills every child that is still running. */
export function killAll() {
  for (const child of running) child.kill('SIGKILL');
}

const ticksPerSecond = Number(execFileSync('getconf', ['CLK_TCK']));

/** A Node script in its own process. It reports events on stdout, as lines of JSON. */
export class Child {
  #name;
  #child;
  #seen = [];
  #waiting = new Map();
  #silent = false;
  #ended;

  constructor(name, script, args, onEvent) {
    this.#name = name;
    this.#child = spawn(process.execPath, [script, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
    running.add(this.#child);
    const lines = createInterface({ input: this.#child.stdout });
    lines.on('line', (line) => {
      const event = JSON.parse(line);
      this.#seen.push(event);
      this.#waiting.get(event.event)?.resolve(event);
      onEvent?.(event);
    });
    lines.on('close', () => {
      this.#silent = true;
      for (const [event, { reject }] of this.#waiting) reject(this.#gone(event));
    });
    this.#ended = new Promise((resolve) => {
      this.#child.on('close', () => {
        running.delete(this.#child);
        resolve();
      });
    });
  }

  /** Waits for an event. Resolves at once if it has been reported already. */
  async event(name) {
    const seen = this.#seen.find(({ event }) => event === name);
    if (seen !== undefined) return seen;
    if (this.#silent) throw this.#gone(name);
    return new Promise((resolve, reject) => this.#waiting.set(name, { resolve, reject }));
  }

  /** The CPU seconds, user and system, that the process has used so far. */
  cpuSeconds() {
    const stat = readFileSync(`/proc/${this.#child.pid}/stat`, 'utf8');
    // The second field is the name in parentheses, which may contain any character.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const [utime, stime] = fields.slice(11, 13).map(Number);
    return (utime + stime) / ticksPerSecond;
  }

  async stop() {
    this.#child.kill('SIGTERM');
    await this.#ended;
  }

  #gone(event) {
    return new StepError(`the ${this.#name} ended before its event "${event}"`);
  }
}
