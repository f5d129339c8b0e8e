// `fdsplice relay` without a native core: Node accepts and connects, and `relay()` does the rest.
import { createServer, type Server, type Socket } from 'node:net';
import type { AddressSpec } from '../contract/address-text.js';
import { type Connection, nameClient, startConnection } from './connection.js';
import type { Ledger } from './ledger.js';
import { listen } from './listen.js';
import type { Relays, RelaysSettings } from './relays.js';
import { KEEP_ALIVE, reset } from './sockets.js';

/** Relays on Node's own sockets. */
export class StreamRelays implements Relays {
  readonly #settings: RelaysSettings;
  readonly #ledger: Ledger;
  readonly #server: Server;
  readonly #running = new Map<Connection, Promise<void>>();
  #turn = 0;

  constructor(settings: RelaysSettings, ledger: Ledger) {
    this.#settings = settings;
    this.#ledger = ledger;
    this.#server = createServer({ ...KEEP_ALIVE, allowHalfOpen: true, pauseOnConnect: true });
    this.#server.on('connection', (client) => this.#add(client));
  }

  async listen(): Promise<string> {
    const address = await listen(this.#server, this.#settings.listen);
    // Not before: a failure to listen is an error of the server too.
    this.#server.on('error', (error) => this.#ledger.notAccepted(error));
    return address;
  }

  get active(): number {
    return this.#running.size;
  }

  get connections(): number {
    return this.#ledger.totals.connections + this.active;
  }

  async close(): Promise<void> {
    this.#server.close();
    await Promise.all(this.#running.values());
  }

  abort(reason: Error): void {
    for (const connection of this.#running.keys()) {
      connection.abort(reason);
    }
  }

  #add(client: Socket): void {
    const { maxConnections, listen } = this.#settings;
    if (this.active >= maxConnections) {
      this.#ledger.refused(nameClient(client, listen));
      reset(client, listen);
      return;
    }
    const connection = startConnection(client, this.#nextTarget(), this.#settings);
    this.#running.set(connection, this.#watch(connection));
  }

  #nextTarget(): AddressSpec {
    const { targets } = this.#settings;
    const target = targets[this.#turn % targets.length];
    if (target === undefined) throw new TypeError('a relay without targets');
    this.#turn += 1;
    return target;
  }

  async #watch(connection: Connection): Promise<void> {
    const settled = await connection.finished.then(
      (report) => () => this.#ledger.ended(report),
      (error: unknown) => () => this.#ledger.notStarted(error),
    );
    this.#running.delete(connection);
    settled();
  }
}
