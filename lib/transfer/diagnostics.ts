// Publishes each transfer on the tracing channel 'fdsplice' of node:diagnostics_channel.
import { tracingChannel } from 'node:diagnostics_channel';
import type { TrafficResult } from '../contract/types.js';

export type TransferKind = 'relay' | 'copy' | 'sendFile';

/** The message to subscribers: one object per transfer, completed when the transfer ends. */
interface Message {
  kind: TransferKind;
  /** Present at the end, also after a failure, but not after a caller's mistake. */
  result?: TrafficResult;
  error?: Error;
}

const channel = tracingChannel<Message>('fdsplice');

/** Publishes the end of one transfer. */
export interface Trace {
  ended(result: TrafficResult): void;
  failed(error: Error, result?: TrafficResult): void;
}

/** Publishes the start of a transfer. Returns `undefined`, at no cost, if the channel has no subscriber. */
export function traceStart(kind: TransferKind): Trace | undefined {
  // Node 20 has no `hasSubscribers` for the channel as a whole.
  const { start, asyncEnd, error } = channel;
  if (!start.hasSubscribers && !asyncEnd.hasSubscribers && !error.hasSubscribers) return undefined;
  const message: Message = { kind };
  start.publish(message);
  return {
    ended(result) {
      message.result = result;
      asyncEnd.publish(message);
    },
    failed(cause, result) {
      message.error = cause;
      if (result !== undefined) message.result = result;
      error.publish(message);
      asyncEnd.publish(message);
    },
  };
}
