// Turns the options of a server into checked settings. Every check throws a caller's mistake that names the option.
import { invalidType } from '../contract/errors.js';
import { rejectUnknown } from '../contract/known-keys.js';
import { callback, flag, integer, milliseconds, splitRates } from '../contract/options.js';
import { type Limit, limitOf, type RateLimiter } from '../contract/rate-limiter.js';
import type { Incoming, RelayServerOptions, Route } from '../contract/server-types.js';
import { routeSpec, type TargetSpec } from '../contract/target.js';

const KNOWN = [
  'routes',
  'route',
  'routeTimeout',
  'maxConnections',
  'idleTimeout',
  'halfCloseTimeout',
  'connectTimeout',
  'rateLimit',
  'pipeSize',
  'zeroCopy',
  'keepAlive',
  'workers',
] as const;

/** The route callback of a server. */
export type Decide = (incoming: Incoming) => Route | null | Promise<Route | null>;

/** A number limits each connection by itself, a limit all of them together. */
export type ServerRate = number | Limit | undefined;

/** The options of a server with the defaults that are not the core's. Durations are in milliseconds. */
export interface ServerSettings {
  routes: TargetSpec[] | undefined;
  route: Decide | undefined;
  routeTimeout: number;
  maxConnections: number | undefined;
  idleTimeout: number | undefined;
  halfCloseTimeout: number | undefined;
  connectTimeout: number;
  /** One rate for both directions together, one to the target, one to the client. */
  rates: [both: ServerRate, tx: ServerRate, rx: ServerRate];
  pipeSize: number | undefined;
  zeroCopy: boolean;
  /** `undefined`: no probes. */
  keepAlive: number | undefined;
  workers: number | undefined;
}

export function serverSettings(options: RelayServerOptions): ServerSettings {
  if (options === undefined) throw invalidType('options', 'an object', options);
  const known = rejectUnknown(options, KNOWN);
  const { keepAlive } = known;
  const [both, tx, rx] = splitRates(known.rateLimit);
  return {
    routes: known.routes === undefined ? undefined : routeSpec('options.routes', known.routes),
    route: callback('route', known.route),
    routeTimeout: milliseconds('routeTimeout', known.routeTimeout) ?? 5000,
    maxConnections: integer('maxConnections', known.maxConnections, 1),
    idleTimeout: milliseconds('idleTimeout', known.idleTimeout),
    halfCloseTimeout: milliseconds('halfCloseTimeout', known.halfCloseTimeout),
    connectTimeout: milliseconds('connectTimeout', known.connectTimeout) ?? 10_000,
    rates: [
      rate('options.rateLimit', both),
      rate('options.rateLimit.tx', tx),
      rate('options.rateLimit.rx', rx),
    ],
    pipeSize: integer('pipeSize', known.pipeSize, 1, 2 ** 31 - 1),
    zeroCopy: flag('zeroCopy', known.zeroCopy, true),
    keepAlive: keepAlive === false ? undefined : (milliseconds('keepAlive', keepAlive) ?? 60_000),
    workers: integer('workers', known.workers, 1, 1024),
  };
}

function rate(name: string, value: number | RateLimiter | undefined): ServerRate {
  const limit = limitOf(name, value);
  // A number makes a limit of its own for each connection, in the core.
  return typeof value === 'number' && limit !== undefined ? value : limit;
}
