// Relays between two descriptors on the native engine.
import type { EndRole } from '../binding.js';
import { nextTick, setTimeout } from '../contract/clock.js';
import { type Failure, invalidState, nodeError } from '../contract/errors.js';
import type { RelaySettings } from '../contract/options.js';
import { inCore } from '../contract/rate-limiter.js';
import type { Transfer } from '../contract/types.js';
import { type NativeEnd, type NativeTransfer, startNative } from '../core/core.js';
import { lendConnections } from '../endpoint/connection.js';
import type { NativeEndpoint } from '../endpoint/endpoint.js';
import { takeDownPipes } from '../endpoint/pipes.js';
import type { Moved } from '../node/byte-counters.js';
import type { RelayedCall } from '../node/held-calls.js';
import { type Ending, LATER, Task } from '../transfer/transfer.js';
import { isFailure, RelayEnd, type RelayOfEnd } from './relay-end.js';
import { GUARD_AFTER } from './start.js';

/** Relays as `settings` say. */
export function relayNatively(
  ends: readonly [NativeEndpoint, NativeEndpoint],
  settings: RelaySettings,
): Transfer {
  const relay = new NativeRelay(ends, settings);
  relay.attempt(() => relay.begin(ends));
  return relay.transfer;
}

/**
 * The life of one native relay. It is one object with methods, and so is each end, because an idle relay has to be small:
 * closures for each relay, and the objects that they keep alive, take several times as much memory.
 */
class NativeRelay extends Task implements RelayOfEnd {
  readonly #a: RelayEnd;
  readonly #b: RelayEnd;
  readonly #settings: RelaySettings;
  #transfer: NativeTransfer | undefined;

  constructor([a, b]: readonly [NativeEndpoint, NativeEndpoint], settings: RelaySettings) {
    super('relay', settings);
    this.#settings = settings;
    this.#a = new RelayEnd(this, a);
    this.#b = new RelayEnd(this, b);
    lendConnections(this, [a, b]);
  }

  /** Takes the sockets over, and starts the relay when both ends are ready. */
  begin(ends: readonly [NativeEndpoint, NativeEndpoint]): void {
    const { headFromA, headFromB } = this.#settings;
    const a = this.#a;
    const b = this.#b;
    if (headFromA !== undefined) a.head = Uint8Array.from(headFromA);
    if (headFromB !== undefined) b.head = Uint8Array.from(headFromB);
    const isPiped = takeDownPipes(...ends);
    a.takeOver(!isPiped);
    // Its listeners may have destroyed an end.
    if (this.isOver) return;
    b.takeOver(!isPiped);
    if (this.isOver) return;
    if (isPiped) nextTick(() => this.attempt(() => this.#prepareUnpiped()));
    else this.#prepare();
  }

  #prepareUnpiped(): void {
    if (this.isOver) return;
    this.#a.refuse();
    this.#b.refuse();
    this.#prepare();
  }

  #prepare(): void {
    // Before anything else: with a signal that has already aborted, no byte moves.
    this.obeySignal();
    const { idleTimeout } = this;
    if (!this.isOver) this.#a.prepare(idleTimeout);
    if (!this.isOver) this.#b.prepare(idleTimeout);
    if (this.isOver || this.#a.isReady === this.#b.isReady) return;
    setTimeout(guard, GUARD_AFTER, this).unref();
  }

  /** Watches the end that is ready while the other one is not. */
  guard(): void {
    if (this.isOver || this.#a.isReady === this.#b.isReady) return;
    (this.#a.isReady ? this.#a : this.#b).guard();
  }

  ready(): void {
    if (this.isOver || !this.#a.isReady || !this.#b.isReady) return;
    this.attempt(() => this.#start());
  }

  #start(): void {
    const a = this.#a;
    const b = this.#b;
    const openA = a.lend();
    const openB = isFailure(openA) ? openA : b.lend();
    if (isFailure(openA) || isFailure(openB)) {
      a.takeBack(openA);
      this.fail(isFailure(openA) ? openA : (openB as Failure));
      return;
    }
    const roleOfA = role(a);
    const roleOfB = role(b);
    a.account();
    b.account();
    try {
      this.run(() => (this.#transfer = this.#startNative(openA, openB, roleOfA, roleOfB)));
    } catch (error) {
      a.takeBack(openA);
      b.takeBack(openB);
      throw error;
    }
  }

  #startNative(
    a: NativeEnd | number,
    b: NativeEnd | number,
    roleOfA: EndRole | undefined,
    roleOfB: EndRole | undefined,
  ): NativeTransfer {
    const { moveOptions, limits } = this.#settings;
    const [both, tx, rx] = limits;
    const isDefault = moveOptions.zeroCopy && Object.keys(moveOptions).length === 1;
    const options = isDefault ? undefined : moveOptions;
    const running = startNative(
      (core, id) => core.relay(id, a, b, roleOfA, roleOfB, options, inCore(both), inCore(tx), inCore(rx)),
      this,
    );
    if (this.#a.isEndDue) running.end('a');
    if (this.#b.isEndDue) running.end('b');
    return running;
  }

  called(end: RelayEnd, call: RelayedCall): void {
    if (call === 'write') this.fail(invalidState(end.side));
    else if (call === 'destroy') this.fail(end.loss);
    else if (this.#transfer === undefined) end.isEndDue = true;
    else if (!this.isOver) this.#transfer.end(end.side);
  }

  movedFor(end: RelayEnd): Moved {
    const { tx, rx } = this.traffic;
    const [read, written] = end === this.#a ? [tx, rx] : [rx, tx];
    return { read: Math.max(0, read - end.readByNode), written };
  }

  protected override releaseEnds({ failure, outcome }: Ending): typeof LATER {
    let open = 2;
    const closed = (error?: Error) => {
      if (open === 0) return;
      open = error === undefined ? open - 1 : 0;
      if (open === 0) this.released(error);
    };
    // The core resets a socket that it was given. One that it never got is reset here, and so are both of a relay
    // whose task has died.
    const isLeft = outcome === undefined || outcome.error?.reason === 'died';
    for (const end of [this.#a, this.#b]) {
      // Only this side has the descriptor of a connection that the core never got.
      const reset = failure !== undefined && (isLeft || end.connection !== undefined);
      const ended = end === this.#a ? outcome?.aEnded : outcome?.bEnded;
      try {
        end.destroy(ended ?? false, reset, this.#emitted(end, failure), closed);
      } catch (error) {
        closed(error as Error);
      }
    }
    return LATER;
  }

  /**
   * The error that a socket emits for a failure. Node ends a socket without `allowHalfOpen` at the end of its input, and
   * reports no error that comes later.
   */
  #emitted(end: RelayEnd, failure: Failure | undefined): Error | undefined {
    if (this.#settings.emitsErrors !== true || failure === undefined || failure.side !== end.side)
      return undefined;
    return failure.afterEnd === true && !end.isHalfOpen ? undefined : nodeError(failure);
  }
}

function guard(relay: NativeRelay): void {
  relay.attempt(() => relay.guard());
}

/** The role of an end; `undefined` for the core's default: handed over, open for writing, nothing read from it yet. */
function role(end: RelayEnd): EndRole | undefined {
  const unread = end.takeUnread();
  const { socket, connection, head } = end;
  const handedOver = socket !== undefined || connection !== undefined;
  const writeEnded = socket?.writableEnded ?? connection?.isWriteEnded ?? false;
  if (handedOver && !writeEnded && unread === undefined && head === undefined) return undefined;
  const bytes = head === undefined || unread === undefined ? (head ?? unread) : Buffer.concat([head, unread]);
  end.head = undefined;
  end.readByNode = bytes?.length ?? 0;
  return { handedOver, writeEnded, ...(bytes === undefined ? {} : { head: bytes }) };
}
