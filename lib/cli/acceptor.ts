// The listening socket of `fdsplice copy` with an end `listen:…`.
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import type { AddressSpec } from '../contract/address-text.js';
import { listen } from './listen.js';
import { KEEP_ALIVE } from './sockets.js';

/** Accepts one connection and then stops listening. */
export class Acceptor {
  readonly #server: Server;
  readonly #accepted: Promise<Socket>;

  constructor(signal: AbortSignal) {
    const server = createServer({ ...KEEP_ALIVE, allowHalfOpen: true, pauseOnConnect: true });
    this.#server = server;
    // Registered before listening: the connection may arrive while the other end of the copy is still being opened.
    this.#accepted = once(server, 'connection', { signal }).then(([socket]) => socket as Socket);
    this.#accepted.catch(() => {});
    server.once('connection', (socket: Socket) => {
      // Without a listener, an error before the copy starts would be thrown. The copy reports it.
      socket.on('error', () => {});
      server.close();
    });
  }

  /** Resolves with the bound address, which has the real port for port 0. */
  listen(address: AddressSpec): Promise<string> {
    return listen(this.#server, address);
  }

  accepted(): Promise<Socket> {
    return this.#accepted;
  }

  close(): void {
    this.#server.close();
  }
}
