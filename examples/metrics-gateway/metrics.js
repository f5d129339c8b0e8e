// The Prometheus metrics of the gateway, computed from the transfers.
import { Counter, Gauge, Registry } from 'prom-client';

/** Reads the counts from the running transfers at each scrape; there is no sampling between scrapes. */
export class GatewayMetrics {
  #registry = new Registry();
  /** Running connections: transfer → name of its client. */
  #live = new Map();
  #settled = { tx: 0, rx: 0 };
  #ended;

  constructor() {
    const live = this.#live;
    const totals = () => this.#totals();
    const registers = [this.#registry];
    new Counter({
      name: 'gateway_bytes_total',
      help: 'Bytes relayed since the start; tx to the target, rx to clients.',
      labelNames: ['direction'],
      registers,
      collect() {
        this.reset();
        const { tx, rx } = totals();
        this.inc({ direction: 'tx' }, tx);
        this.inc({ direction: 'rx' }, rx);
      },
    });
    new Counter({
      name: 'gateway_connection_bytes_total',
      help: 'Bytes relayed by each open connection.',
      labelNames: ['client', 'direction'],
      registers,
      collect() {
        this.reset();
        for (const [transfer, client] of live) {
          const { tx, rx } = transfer.traffic;
          this.inc({ client, direction: 'tx' }, tx);
          this.inc({ client, direction: 'rx' }, rx);
        }
      },
    });
    new Gauge({
      name: 'gateway_connections',
      help: 'Open connections.',
      registers,
      collect() {
        this.set(live.size);
      },
    });
    this.#ended = new Counter({
      name: 'gateway_connections_ended_total',
      help: 'Connections that ended, by "ok", "closed_by_client", "closed_by_target" or the code of the error.',
      labelNames: ['outcome'],
      registers,
    });
  }

  get contentType() {
    return this.#registry.contentType;
  }

  text() {
    return this.#registry.metrics();
  }

  /** Adds a running transfer; returns the function to call with its result. */
  connected(client, transfer) {
    this.#live.set(transfer, client);
    return ({ tx, rx, error }) => {
      // Without an await between: every scrape counts the bytes of this connection exactly once.
      this.#live.delete(transfer);
      this.#settled.tx += tx;
      this.#settled.rx += rx;
      this.#ended.inc({ outcome: outcomeOf(error) });
    };
  }

  #totals() {
    const sum = { ...this.#settled };
    for (const transfer of this.#live.keys()) {
      const { tx, rx } = transfer.traffic;
      sum.tx += tx;
      sum.rx += rx;
    }
    return sum;
  }
}

/** After the end of its input, a side may close when it likes. */
function outcomeOf(error) {
  if (error === null) return 'ok';
  if (error.afterEnd) return error.side === 'a' ? 'closed_by_client' : 'closed_by_target';
  return error.code;
}
