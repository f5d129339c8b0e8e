// Connects in the core, and their outcomes.
import type { Connector, NativeConnected, NativeConnectFailure } from '../binding.js';
import { nextTick } from '../contract/clock.js';
import { required } from './addon.js';
import { keepProcessAlive, letProcessEnd } from './keep-alive.js';

export type { NativeConnected, NativeConnectFailure };

/** Called once with the outcome of a connect that was not cancelled, perhaps before {@link startConnect} returns. */
type Receiver = (outcome: NativeConnected | NativeConnectFailure) => void;

/** The receiver of each connect whose outcome is due, by its number. */
const receivers = new Map<number, Receiver>();
let lastId = 0;
let connector: Connector | undefined;

/**
 * Starts to connect to a target within `timeout` ms. Returns a function that gives it up.
 *
 * @throws the reason why the core does not accept the target or the local address
 */
export function startConnect(
  target: string,
  localAddress: string | undefined,
  timeout: number,
  receiver: Receiver,
): () => void {
  connector ??= new (required().Connector)(deliver);
  const id = nextId();
  const outcome = connector.connect(id, target, localAddress, timeout);
  if (outcome !== null) {
    receiver(outcome);
    return () => {};
  }
  receivers.set(id, receiver);
  keepProcessAlive();
  return () => {
    if (!receivers.delete(id)) return;
    letProcessEnd();
    connector?.cancel(id);
  };
}

function nextId(): number {
  do {
    lastId = (lastId + 1) % 2 ** 32;
  } while (receivers.has(lastId));
  return lastId;
}

function deliver(ids: number[], outcomes: (NativeConnected | NativeConnectFailure)[]): void {
  for (const [index, outcome] of outcomes.entries()) {
    const id = ids[index] ?? 0;
    const receiver = receivers.get(id);
    if (receivers.delete(id)) letProcessEnd();
    // The connect was cancelled when its connection was on its way.
    if (receiver === undefined && 'end' in outcome) outcome.end.release();
    try {
      receiver?.(outcome);
    } catch (error) {
      // An uncaught exception, as from any callback of Node, but after the rest of the batch.
      nextTick(() => {
        throw error;
      });
    }
  }
}
