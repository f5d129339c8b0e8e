// Starts transfers on the stream engine.
import { nextTick } from '../contract/clock.js';
import { alreadyEnded, type Failure, invalidState, thrown } from '../contract/errors.js';
import type { CopySettings, RelaySettings } from '../contract/options.js';
import type { Side } from '../contract/traffic.js';
import type { NativeOutcome } from '../core/core.js';
import { discard, type Endpoint } from '../endpoint/endpoint.js';
import { takeDownPipes } from '../endpoint/pipes.js';
import type { WritableLike } from '../endpoint/stream-kinds.js';
import { failureOf, isUsable } from '../endpoint/usable.js';
import type { HeldCalls, RelayedCall } from '../node/held-calls.js';
import type { EngineTransfer, Task } from '../transfer/transfer.js';
import { pathWriterOf, readerOf, relayEndsOf, type RelayEnds, writerOf } from './ends.js';
import { type Announced, Flow, type Reader, type Writer } from './flow.js';
import { StreamRun } from './run.js';

const NOTHING = Buffer.alloc(0);

/** Copies one way. */
export function copyStreams(
  task: Task,
  [source, destination]: readonly [Endpoint, Endpoint],
  settings: CopySettings,
  { announced, calls }: Destined = {},
): void {
  task.engine = 'stream';
  for (const end of [source, destination]) if (!isUsable(end)) task.fail(failureOf(end));
  if (!isUsable(source) || !isUsable(destination)) {
    discard(source, destination);
    return;
  }
  const { start, length, position, endDestination, head, limit, moveOptions } = settings;
  const refuse = (mistake: Error) => task.refuse(mistake);
  const reader = readerOf(source, { start, length }, destination, refuse);
  const { release } = task;
  task.release = async (ending) => {
    await reader.release(NOTHING);
    discard(source, destination);
    await release(ending);
  };
  const writer =
    destination.kind === 'path'
      ? pathWriterOf(destination, position, source, reader, refuse)
      : writerOf(destination, position, endDestination, calls);
  task.release = release;
  const flow = new Flow(reader, writer, {
    head: copyOf(head),
    length: length ?? Infinity,
    end: endDestination,
    throttle: limit?.throttle(),
    announced,
    direction: 0,
  });
  runFlow(task, flow, moveOptions);
}

/** What the caller of an engine knows of a destination. */
export interface Destined {
  announced?: Announced;
  /** Calls of others on the destination, which the caller replays itself. */
  calls?: HeldCalls<WritableLike>;
}

type PumpSettings = Pick<CopySettings, 'endDestination' | 'limit' | 'moveOptions'>;

/** Copies from a reader to a writer that the caller has opened. */
export function pump(
  task: Task,
  reader: Reader,
  writer: Writer,
  settings: PumpSettings,
  announced?: Announced,
): void {
  const { endDestination: end, limit, moveOptions } = settings;
  const options = {
    head: NOTHING,
    length: Infinity,
    end,
    throttle: limit?.throttle(),
    announced,
    direction: 0,
  } as const;
  runFlow(task, new Flow(reader, writer, options), moveOptions);
}

function runFlow(task: Task, flow: Flow, moveOptions: CopySettings['moveOptions']): void {
  const release = task.release;
  let isRunning = false;
  task.release = async (ending) => {
    try {
      // Aborted before the start: the ends must be released all the same.
      if (!isRunning) await flow.release();
    } finally {
      await release(ending);
    }
  };
  task.obeySignal();
  // A copy would drop the bytes that it has to deliver. In a relay only that direction has ended.
  if (flow.writer.isEnded) task.fail(alreadyEnded('destination'));
  if (task.isOver) return;
  task.run((settled) => {
    isRunning = true;
    const ended = (outcome: NativeOutcome, failure?: Failure) =>
      void flow
        .release()
        .then((undelivered) => {
          if (undelivered.length > 0 && failure !== undefined) failure.undelivered = undelivered;
          return failure;
        })
        .catch((error: unknown) => failure ?? thrown(error))
        .then((reported) => {
          // The release counts the bytes that a stream which stays open has in its queue.
          const { tx } = run.traffic();
          settled({ ...outcome, tx }, reported);
        });
    const run: EngineTransfer = new StreamRun([flow], ['source'], moveOptions, ended);
    return run;
  }, 'stream');
}

/** Relays both ways. */
export function relayStreams(
  task: Task,
  endpoints: readonly [Endpoint, Endpoint],
  { headFromA, headFromB, limits, moveOptions, emitsErrors }: RelaySettings,
): void {
  task.engine = 'stream';
  const [both, tx, rx] = limits.map((limit) => limit?.throttle());
  const ends: RelayEnds[] = [];
  task.release = async ({ failure }) => {
    const destroyed = await Promise.allSettled(ends.map((end) => end.destroy(failure, task.traffic)));
    for (const each of destroyed) if (each.status === 'rejected') throw each.reason;
  };
  let flows: readonly Flow[] = [];
  let run: StreamRun | undefined;
  /** The end that was destroyed first. What its owner does with the other end in consequence is no failure of that one. */
  let destroyed: RelayEnds | undefined;
  const endedBeforeTheStart = new Set<Side>();
  for (const endpoint of endpoints) {
    const { side } = endpoint;
    const called = (call: RelayedCall) => {
      const loss = destroyed?.loss;
      if (run?.hasFailed === true) return;
      if (call === 'destroy') destroyed ??= ends.find((end) => end.side === side);
      else if (loss !== undefined) task.fail(loss);
      else if (call === 'write') task.fail(invalidState(side));
      else if (hasInputEnded(endpoint)) return;
      else if (flows.length === 0) endedBeforeTheStart.add(side);
      else flows.find((flow) => flow.side === side)?.endEarly();
    };
    ends.push(relayEndsOf(endpoint, { called, emitsErrors }));
  }
  for (const end of ends) end.takeOver();
  const heads = [copyOf(headFromA), copyOf(headFromB)] as const;
  const start = () => {
    if (task.isOver) return;
    for (const end of ends) end.refuseCalls();
    const [a, b] = ends as [RelayEnds, RelayEnds];
    flows = [
      new Flow(a.reader, b.writer, {
        head: heads[0],
        length: Infinity,
        end: true,
        throttle: both ?? tx,
        direction: 0,
        side: 'b',
      }),
      new Flow(b.reader, a.writer, {
        head: heads[1],
        length: Infinity,
        end: true,
        throttle: both ?? rx,
        direction: both === undefined ? 0 : 1,
        side: 'a',
      }),
    ];
    task.obeySignal();
    for (const endpoint of endpoints)
      if (!isUsable(endpoint)) task.fail(destroyed?.loss ?? failureOf(endpoint));
    if (task.isOver) return;
    const firstLoss = (failure: Failure) =>
      failure.side === destroyed?.side ? failure : (destroyed?.loss ?? failure);
    task.run((settled) => {
      run = new StreamRun(flows, ['a', 'b'], moveOptions, settled, firstLoss);
      return run;
    }, 'stream');
    for (const flow of flows) if (endedBeforeTheStart.has(flow.side)) flow.endEarly();
  };
  if (takeDownPipes(...endpoints)) nextTick(() => task.attempt(start));
  else start();
}

/** Whether the owner of a stream has seen its end of input. */
function hasInputEnded(endpoint: Endpoint): boolean {
  const stream = endpoint.kind === 'socket' ? endpoint.socket : endpoint.kind === 'stream' && endpoint.stream;
  return stream !== false && 'readableEnded' in stream && stream.readableEnded;
}

function copyOf(head: Uint8Array | undefined): Buffer {
  return head === undefined ? NOTHING : Buffer.from(head);
}
