import { discard, type Endpoint } from '../endpoint/endpoint.js';
import { endedFailure, failureOf, isUsable } from '../endpoint/usable.js';
import { invalidState } from '../contract/errors.js';
import type { CopySettings, RelaySettings } from '../contract/options.js';
import type { Ended, Running, Task } from '../transfer/transfer.js';
import { readerOf, relayEndsOf, type RelayEnds, writerOf } from './ends.js';
import { Flow, type Reader, type Writer } from './flow.js';
import { StreamRun } from './run.js';

const NOTHING = Buffer.alloc(0);

/** Moves bytes one way, on streams. */
export function copyStreams(
  task: Task,
  [source, destination]: readonly [Endpoint, Endpoint],
  settings: CopySettings,
): void {
  task.engine = 'stream';
  for (const end of [source, destination]) if (!isUsable(end)) task.fail(failureOf(end));
  if (!isUsable(source) || !isUsable(destination)) {
    discard(source, destination);
    return;
  }
  const { start, length, position, endDestination, head, limit, how } = settings;
  const reader = readerOf(source, { start, length });
  const writer = writerOf(destination, position, endDestination);
  const flow = new Flow(reader, writer, {
    head: head === undefined ? NOTHING : Buffer.from(head),
    length: length ?? Infinity,
    end: endDestination,
    throttle: limit?.throttle(),
    who: 0,
  });
  runFlow(task, flow, how);
}

/** The same from what has been opened for it. */
export function pump(task: Task, reader: Reader, writer: Writer, settings: PumpSettings): void {
  const { endDestination: end, limit, how } = settings;
  const throttle = limit?.throttle();
  runFlow(task, new Flow(reader, writer, { head: NOTHING, length: Infinity, end, throttle, who: 0 }), how);
}

type PumpSettings = Pick<CopySettings, 'endDestination' | 'limit' | 'how'>;

function runFlow(task: Task, flow: Flow, how: CopySettings['how']): void {
  const release = task.release;
  let isRunning = false;
  task.release = async (ending) => {
    // Aborted before it had started: the ends are to be let go all the same.
    if (!isRunning) await flow.release();
    await release(ending);
  };
  task.obeySignal();
  // Of a relay only that direction is over before it starts; a copy would drop what it was asked to deliver.
  if (flow.writer.isEnded) task.fail(endedFailure('destination'));
  if (task.isOver) return;
  task.run((settled) => {
    isRunning = true;
    const ended = (outcome: Ended) =>
      void flow.release().then((undelivered) => {
        // What a stream that goes on had taken into its queue counts now.
        const { tx } = run.traffic();
        if (undelivered.length > 0 && outcome.failure !== undefined)
          outcome.failure.undelivered = undelivered;
        settled({ ...outcome, tx });
      });
    const run: Running = new StreamRun([flow], ['source'], how, ended);
    return run;
  }, 'stream');
}

/** Moves bytes both ways, on streams. */
export function relayStreams(
  task: Task,
  endpoints: readonly [Endpoint, Endpoint],
  { headFromA, headFromB, limits, how }: RelaySettings,
): void {
  task.engine = 'stream';
  const [both, tx, rx] = limits.map((limit) => limit?.throttle());
  const [a, b] = endpoints.map((endpoint) =>
    relayEndsOf(endpoint, () => task.fail(invalidState(endpoint.side))),
  ) as [RelayEnds, RelayEnds];
  const flows = [
    new Flow(a.reader, b.writer, {
      head: copyOf(headFromA),
      length: Infinity,
      end: true,
      throttle: both ?? tx,
      who: 0,
    }),
    new Flow(b.reader, a.writer, {
      head: copyOf(headFromB),
      length: Infinity,
      end: true,
      throttle: both ?? rx,
      who: both === undefined ? 0 : 1,
    }),
  ];
  task.release = async ({ failure }) => {
    await Promise.all([a.destroy(failure, task.traffic), b.destroy(failure, task.traffic)]);
  };
  task.obeySignal();
  for (const endpoint of endpoints) if (!isUsable(endpoint)) task.fail(failureOf(endpoint));
  if (task.isOver) return;
  task.run((settled) => new StreamRun(flows, ['a', 'b'], how, settled), 'stream');
}

function copyOf(head: Uint8Array | undefined): Buffer {
  return head === undefined ? NOTHING : Buffer.from(head);
}
