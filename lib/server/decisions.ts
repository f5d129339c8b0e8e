// Puts the core's questions to the route callback and sends the answers back, those of one batch in one call.
import { AsyncResource } from 'node:async_hooks';
import { nextTick } from '../contract/clock.js';
import type { Incoming, Route } from '../contract/server-types.js';
import { routeSpec } from '../contract/target.js';
import type { Decide } from './options.js';
import type { RouteTable } from './route-table.js';

/** The answers that stand for no route. */
export const REFUSE = -1;
export const FAILED = -2;

/**
 * Takes pairs of a connection's number and its answer: the number of a route, {@link REFUSE} or {@link FAILED}. Returns the
 * numbers of the connections that no longer wait, because they ended or their time was over.
 */
export type SendAnswers = (pairs: number[]) => number[];

/** The decisions of one server. The callback runs in the async context in which the server was made. */
export class Decisions {
  readonly #context = new AsyncResource('fdsplice.route', { requireManualDestroy: true });
  readonly #decide: Decide;
  readonly #routes: RouteTable;
  readonly #send: SendAnswers;
  /** Why a callback failed, until the record of the refused connection takes it. */
  readonly #causes = new Map<number, unknown>();
  #answers: number[] = [];
  #isScheduled = false;

  constructor(decide: Decide, routes: RouteTable, send: SendAnswers) {
    this.#decide = decide;
    this.#routes = routes;
    this.#send = send;
  }

  /** Asks the callback about each connection. Answers that are there at once leave in one call. */
  ask(batch: readonly Incoming[]): void {
    for (const incoming of batch) this.#context.runInAsyncScope(() => this.#askOne(incoming));
    this.#flush();
  }

  /** Why the callback failed for a connection. Only the first call returns it. */
  takeCause(id: number): unknown {
    const cause = this.#causes.get(id);
    this.#causes.delete(id);
    return cause;
  }

  #askOne(incoming: Incoming): void {
    const { id } = incoming;
    try {
      const decision = this.#decide(incoming);
      if (!isThenable(decision)) {
        this.#answer(id, decision);
        return;
      }
      // Promise.resolve: a thenable of another library may call back twice, or throw.
      Promise.resolve(decision).then(
        (route) => this.#answerLater(() => this.#answer(id, route)),
        (error: unknown) => this.#answerLater(() => this.#fail(id, error)),
      );
    } catch (error) {
      this.#fail(id, error);
    }
  }

  #answerLater(answer: () => void): void {
    answer();
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    // Runs when all promises that are settled now have been answered.
    nextTick(() => {
      this.#isScheduled = false;
      this.#flush();
    });
  }

  #answer(id: number, route: Route | null): void {
    try {
      this.#answers.push(id, route === null ? REFUSE : this.#routes.numberOf(routeSpec('route()', route)));
    } catch (error) {
      this.#fail(id, error);
    }
  }

  #fail(id: number, cause: unknown): void {
    this.#causes.set(id, cause);
    this.#answers.push(id, FAILED);
  }

  #flush(): void {
    if (this.#answers.length === 0) return;
    const answers = this.#answers;
    this.#answers = [];
    // No record of a connection that no longer waits has this cause.
    for (const id of this.#send(answers)) this.#causes.delete(id);
  }
}

function isThenable(value: unknown): value is PromiseLike<Route | null> {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function';
}
