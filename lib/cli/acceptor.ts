import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import type { Address } from './address.js';
import { listen } from './listen.js';
import { KEEP_ALIVE } from './sockets.js';

/** Listens for one connection, and for no other one after it. */
export class Acceptor {
  readonly #server: Server;
  readonly #accepted: Promise<Socket>;

  constructor(signal: AbortSignal) {
    const server = createServer({ ...KEEP_ALIVE, allowHalfOpen: true, pauseOnConnect: true });
    this.#server = server;
    // Before the first one is there, so that it is not missed while the other end of the copy is being opened.
    this.#accepted = once(server, 'connection', { signal }).then(([socket]) => socket as Socket);
    this.#accepted.catch(() => {});
    server.once('connection', (socket: Socket) => {
      // What goes wrong with it before the copy begins is told by the copy.
      socket.on('error', () => {});
      server.close();
    });
  }

  /** Gives the real address. */
  listen(address: Address): Promise<string> {
    return listen(this.#server, address);
  }

  accepted(): Promise<Socket> {
    return this.#accepted;
  }

  close(): void {
    this.#server.close();
  }
}
