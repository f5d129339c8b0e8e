import { once } from 'node:events';
import net from 'node:net';

/** The origins, which of them answer, and how many connections each has. */
export class Origins {
  #all;
  #patience;
  #changed;

  /** `patience`: milliseconds that an origin has to accept. `changed` is told of one that goes down or comes up. */
  constructor(names, patience, changed) {
    this.#all = names.map((name) => ({ name, ...parsed(name), isUp: true, connections: 0 }));
    this.#patience = patience;
    this.#changed = changed;
  }

  get connections() {
    return this.#all.reduce((sum, { connections }) => sum + connections, 0);
  }

  /**
   * Connects to the origin that has the fewest connections. One that does not accept is down from then on, and the next
   * is tried: no byte of the client's has been read, so nothing is lost or sent twice.
   */
  async connect() {
    for (;;) {
      const up = this.#all.filter(({ isUp }) => isUp);
      if (up.length === 0) return undefined;
      const origin = up.reduce((least, each) => (each.connections < least.connections ? each : least));
      // Counted from here on, so that those who come meanwhile choose another.
      origin.connections += 1;
      const socket = await this.#dial(origin);
      if (socket !== undefined) return { origin, socket };
      origin.connections -= 1;
    }
  }

  /** Knocks on every origin's door. */
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
