import { tracingChannel } from 'node:diagnostics_channel';
import type { TrafficResult } from '../contract/types.js';

export type TransferKind = 'relay' | 'copy' | 'sendFile';

/** What subscribers of `tracingChannel('fdsplice')` are given: one object a transfer, filled as it goes on. */
interface Message {
  kind: TransferKind;
  /** Present when the transfer has ended, also in an error. */
  result?: TrafficResult;
  error?: Error;
}

const channel = tracingChannel<Message>('fdsplice');

/** The end of a transfer, told to those who subscribed before its start. */
export interface Trace {
  ended(result: TrafficResult): void;
  failed(error: Error, result?: TrafficResult): void;
}

/** Publishes the start of a transfer; nothing, and at no cost, where nobody has subscribed. */
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
