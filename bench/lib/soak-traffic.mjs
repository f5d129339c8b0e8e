// The traffic of a soak: clients connect through a gateway in the same process, each with its own kind of transfer and ending.
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { copy, RateLimiter, relay, sendFile } from 'fdsplice';

const BYTES = randomBytes(4 << 20);
const below = (number) => Math.floor(Math.random() * number);

/** Kinds of clients, each with its weight. */
const DEEDS = [
  ['bulk', 3],
  ['messages', 5],
  ['empty', 2],
  ['reset', 2],
  ['origin resets', 1],
  ['abort', 2],
  ['destroy', 1],
  ['slow reader', 2],
  ['idle timeout', 1],
  ['copy', 2],
  ['file', 4],
].flatMap(([name, weight]) => Array.from({ length: weight }, () => name));

export class Traffic {
  counts = {};
  problems = [];
  #running = true;
  #paused = false;
  #busy = 0;
  #limiter = new RateLimiter(200 << 20);
  #directory = mkdtempSync(join(tmpdir(), 'fdsplice-'));
  #file = join(this.#directory, 'file');
  #echo;
  #resetter;
  #gateway;
  #lanes = [];
  /** By the client's port: accepted but not yet expected; expected but not yet accepted. */
  #waiting = new Map();
  #expected = new Map();

  static async start(clients) {
    const traffic = new Traffic();
    writeFileSync(traffic.#file, BYTES);
    traffic.#echo = net.createServer({ allowHalfOpen: true }, (socket) => {
      socket.on('error', () => {});
      socket.pipe(socket);
    });
    // An origin that resets a connection on its first byte.
    traffic.#resetter = net.createServer((socket) => {
      socket.on('error', () => {}).once('data', () => socket.resetAndDestroy());
    });
    traffic.#gateway = net.createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) =>
      traffic.#take(socket),
    );
    for (const server of [traffic.#echo, traffic.#resetter, traffic.#gateway]) {
      server.listen({ port: 0, host: '127.0.0.1', backlog: 1024 });
      await once(server, 'listening');
    }
    traffic.#lanes = Array.from({ length: clients }, () => traffic.#lane());
    return traffic;
  }

  async pause() {
    this.#paused = true;
    while (this.#busy > 0) await sleep(20);
  }

  resume() {
    this.#paused = false;
  }

  async stop() {
    this.#running = false;
    this.resume();
    await Promise.all(this.#lanes);
    this.#echo.close();
    this.#resetter.close();
    this.#gateway.close();
    rmSync(this.#directory, { recursive: true });
  }

  async #lane() {
    while (this.#running) {
      if (this.#paused) {
        await sleep(20);
        continue;
      }
      const deed = DEEDS[below(DEEDS.length)];
      this.#busy += 1;
      try {
        const ending = await this.#do(deed);
        const key = `${deed}: ${ending}`;
        this.counts[key] = (this.counts[key] ?? 0) + 1;
      } catch (error) {
        if (this.problems.length < 20) this.problems.push(`${deed}: ${error}`);
      } finally {
        this.#busy -= 1;
      }
      await sleep(below(20));
    }
  }

  async #do(deed) {
    const client = net.connect({
      port: this.#gateway.address().port,
      host: '127.0.0.1',
      allowHalfOpen: true,
    });
    client.on('error', () => {});
    const a = await this.#accepted(client);
    if (deed === 'file') return this.#sent(client, a);
    const origin = deed === 'origin resets' ? this.#resetter : this.#echo;
    const b = net.connect({ port: origin.address().port, host: '127.0.0.1', allowHalfOpen: true });
    if (deed === 'copy') return this.#copy(client, a, b);
    const options = { reject: false, headFromA: BYTES.subarray(0, below(100)) };
    if (below(3) === 0) options.rateLimit = this.#limiter;
    if (below(3) === 0) options.onProgress = () => {};
    if (below(4) === 0) options.zeroCopy = false;
    if (below(2) === 0) options.idleTimeout = 20_000;
    if (deed === 'idle timeout') options.idleTimeout = 50;
    const transfer = relay(a, b, options);
    const sent = createHash('sha256').update(options.headFromA);
    const received = createHash('sha256');
    let got = 0;
    const end = new Promise((resolve) =>
      client.once('end', () => resolve('end')).once('close', () => resolve('close')),
    );
    client.on('data', (data) => {
      got += data.length;
      received.update(data);
      if (deed === 'slow reader' && below(4) === 0) {
        client.pause();
        setTimeout(() => client.resume(), 2);
      }
    });
    const send = (bytes) => {
      const at = below(1 << 20);
      const part = BYTES.subarray(at, at + bytes);
      sent.update(part);
      if (client.writable && !client.write(part)) return once(client, 'drain');
      return undefined;
    };
    switch (deed) {
      case 'bulk':
      case 'slow reader':
        for (let part = below(12); part >= 0; part -= 1) await send(1 + below(1 << 20));
        break;
      case 'messages':
        for (let part = below(60); part >= 0; part -= 1) {
          send(1 + below(600));
          await sleep(below(3));
        }
        break;
      case 'empty':
      case 'idle timeout':
        break;
      case 'origin resets':
        client.write('a word');
        break;
      default:
        send(1 + below(2 << 20));
        await sleep(below(10));
        if (deed === 'reset') client.resetAndDestroy();
        else if (deed === 'abort') transfer.abort();
        else (below(2) === 0 ? a : b).destroy();
    }
    const clean = ['bulk', 'slow reader', 'messages', 'empty'].includes(deed);
    if (clean) client.end();
    const ending = await end;
    const { error, tx, rx } = await transfer;
    client.destroy();
    if (clean) {
      if (error !== null) throw error;
      if (ending !== 'end' || tx !== rx || got !== rx)
        throw new Error(`${ending}, ${tx} sent, ${rx} back, ${got} seen`);
      if (sent.digest('hex') !== received.digest('hex')) throw new Error('altered bytes');
    }
    return error?.code ?? 'clean';
  }

  /** A copy of a known length; Node uses the rest of the connection. */
  async #copy(client, a, b) {
    const bytes = 1 + below(1 << 20);
    b.on('error', () => {});
    await once(b, 'connect');
    const part = BYTES.subarray(below(1 << 20)).subarray(0, bytes);
    const chunks = [];
    const back = new Promise((resolve) => b.once('end', resolve).once('close', resolve));
    b.on('data', (data) => chunks.push(data));
    client.end(part);
    const { tx } = await copy(a, b, { length: bytes, endDestination: true });
    await back;
    for (const socket of [client, a, b]) socket.destroy();
    if (tx !== bytes || !Buffer.concat(chunks).equals(part))
      throw new Error(`a copy of ${bytes} bytes gave ${tx}`);
    return 'clean';
  }

  /** A part of a file. Half of the parts are small enough to be sent in one call; some clients reset in the middle. */
  async #sent(client, a) {
    const start = below(1 << 20);
    const bytes = 1 + below(below(2) === 0 ? 64 << 10 : 3 << 20);
    const leaves = below(3) === 0;
    const options = { start, end: start + bytes - 1, endDestination: true, reject: false };
    if (below(3) === 0) options.rateLimit = this.#limiter;
    const chunks = [];
    const end = new Promise((resolve) => client.once('end', resolve).once('close', resolve));
    if (!leaves) client.on('data', (data) => chunks.push(data));
    const transfer = sendFile(this.#file, a, options);
    if (leaves) {
      await sleep(below(5));
      client.resetAndDestroy();
    }
    const { tx, error } = await transfer;
    if (!leaves) await end;
    for (const socket of [client, a]) socket.destroy();
    if (leaves) return error?.code ?? 'clean';
    if (error !== null) throw error;
    if (tx !== bytes || !Buffer.concat(chunks).equals(BYTES.subarray(start, start + bytes)))
      throw new Error(`a file of ${bytes} bytes gave ${tx}`);
    return 'clean';
  }

  /** The gateway's end of a client's connection, found by the client's port. */
  async #accepted(client) {
    await once(client, 'connect');
    const { localPort } = client;
    return new Promise((resolve) => {
      const early = this.#waiting.get(localPort);
      if (early !== undefined) {
        this.#waiting.delete(localPort);
        resolve(early);
      } else {
        this.#expected.set(localPort, resolve);
      }
    });
  }

  #take(socket) {
    socket.on('error', () => {});
    const resolve = this.#expected.get(socket.remotePort);
    if (resolve === undefined) {
      this.#waiting.set(socket.remotePort, socket);
    } else {
      this.#expected.delete(socket.remotePort);
      resolve(socket);
    }
  }
}
