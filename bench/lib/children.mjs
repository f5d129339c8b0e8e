// Child processes: started with their output read by line, and ended with this process.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';

const living = new Set();

/** A child process whose stdout is read line by line. */
export class Child {
  #lines = [];
  #waiting = [];
  #errors = '';

  constructor(name, command, args, { cwd, fds = [] } = {}) {
    this.name = name;
    this.process = spawn(command, args, { cwd, stdio: ['pipe', 'pipe', 'pipe', ...fds] });
    living.add(this);
    // A write to a child that has just failed; its exit has the reason.
    this.process.stdin.on('error', () => {});
    this.process.stderr.setEncoding('utf8').on('data', (text) => {
      this.#errors = (this.#errors + text).slice(-10_000);
    });
    createInterface({ input: this.process.stdout }).on('line', (line) => {
      const next = this.#waiting.shift();
      if (next) next.resolve(line);
      else this.#lines.push(line);
    });
    this.ended = new Promise((resolve) => {
      this.process.on('error', (error) => this.#end(error.message, resolve));
      this.process.on('close', (code, signal) => this.#end(signal ?? `exit status ${code}`, resolve));
    });
  }

  get pid() {
    return this.process.pid;
  }

  /** The last 10,000 characters of stderr. */
  get errors() {
    return this.#errors.trim();
  }

  #end(how, resolve) {
    living.delete(this);
    this.how ??= how;
    for (const { reject } of this.#waiting.splice(0)) reject(this.#gone());
    resolve(this.how);
  }

  /** The line of stderr that most likely names the problem. */
  get complaint() {
    const lines = this.errors.split('\n');
    return lines.findLast((line) => /error|alert/i.test(line)) ?? lines.at(-1);
  }

  #gone() {
    return new Error(`${this.name}: ${this.complaint || this.how}`);
  }

  /** The next line of stdout. */
  async line(seconds) {
    const ready = this.#lines.shift();
    if (ready !== undefined) return ready;
    if (this.how !== undefined) throw this.#gone();
    const cancel = new AbortController();
    const late = delay(seconds * 1000, undefined, { signal: cancel.signal }).then(() => {
      throw new Error(`${this.name}: silent for ${seconds} s`);
    });
    try {
      const next = new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
      return await Promise.race([next, late]);
    } finally {
      late.catch(() => {});
      cancel.abort();
    }
  }

  /** Ends the child and waits for its exit. */
  async stop(signal = 'SIGTERM') {
    if (this.how !== undefined) return;
    this.process.kill(signal);
    const timer = setTimeout(() => this.process.kill('SIGKILL'), 2000);
    await this.ended;
    clearTimeout(timer);
  }
}

/** Waits for the `listening <port>` of a relay or origin. */
export async function listeningPort(child) {
  const line = await child.line(10);
  const found = /^listening (\d+)$/.exec(line);
  if (!found) throw new Error(`${child.name}: expected "listening <port>", not "${line}"`);
  return Number(found[1]);
}

/** Ends all running children. */
export async function stopAll() {
  await Promise.all([...living].map((child) => child.stop()));
}

process.on('exit', () => {
  for (const child of living) child.process.kill('SIGKILL');
});
for (const [signal, status] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
]) {
  void once(process, signal).then(() => process.exit(status));
}
