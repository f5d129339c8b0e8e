// The origins of the load balancer: choice by fewest connections, and health checks by connecting.
import { once } from 'node:events';
import net from 'node:net';

/** The origins, with their health and their number of connections. */
export class Origins {
  #all;
  #patience;
  #changed;

  /** `patience`: milliseconds in which an origin must accept. `changed` is called with an origin that went down or up. */
  constructor(names, patience, changed) {
    this.#all = names.map((name) => ({ name, ...parsed(name), isUp: true, connections: 0 }));
    this.#patience = patience;
    this.#changed = changed;
  }

  get connections() {
    return this.#all.reduce((sum, { connections }) => sum + connections, 0);
  }

  /**
   * Connects to the origin with the fewest connections. An origin that does not accept is marked as down, and the next
   * one is tried. No byte of the client has been read before, so none is lost or sent twice.
   */
  async connect() {
    for (;;) {
      const up = this.#all.filter(({ isUp }) => isUp);
      if (up.length === 0) return undefined;
      const origin = up.reduce((least, each) => (each.connections < least.connections ? each : least));
      // Counted before it is connected, so that concurrent calls choose another origin.
      origin.connections += 1;
      const socket = await this.#dial(origin);
      if (socket !== undefined) return { origin, socket };
      origin.connections -= 1;
    }
  }

  /** Connects to every origin once, and closes the connection. */
  async check() {
    await Promise.all(this.#all.map(async (origin) => (await this.#dial(origin))?.destroy()));
  }

  async #dial(origin) {
    const { host, port } = origin;
    const socket = net.connect({ host, port, allowHalfOpen: true }).pause();
    try {
      await once(socket, 'connect', { signal: AbortSignal.timeout(this.#patience) });
      this.#mark(origin, true);
      return socket;
    } catch {
      socket.on('error', () => {}).destroy();
      this.#mark(origin, false);
      return undefined;
    }
  }

  #mark(origin, isUp) {
    if (origin.isUp === isUp) return;
    origin.isUp = isUp;
    this.#changed(origin);
  }
}

function parsed(name) {
  const colon = name.lastIndexOf(':');
  return { host: name.slice(0, colon), port: Number(name.slice(colon + 1)) };
}
