// The classes that a socket has while a relay moves its bytes by descriptor. Node then reads and writes nothing itself, and
// calls of the owner are reported to the relay. The methods are on a prototype that all relayed sockets of a class share. As
// properties of each socket, with the methods that they replace, they would take a KiB of every idle relay.
import { Socket } from 'node:net';
import { counted, reserveAccount } from './byte-counters.js';
import { CALLED, ignoreCork, refuseEnd, refuseWrite, type RelayedCall, reportDestroy } from './held-calls.js';
import { changeClass, DESTROY, isNodeReading, READ_MORE, stopReading } from './internals.js';
import { PropertyOverlay } from './overlay.js';

/** The end of a relay that has taken a socket over. */
export interface SocketOwner {
  /** Called for each call of the socket's owner that {@link RelayedCall} names. */
  called(call: RelayedCall): void;
  /** Called when the socket has connected, after {@link listen}. */
  connected(): void;
  /** Called when the socket has emitted 'close', after {@link listen}. */
  closed(): void;
}

const OWNER = Symbol('fdsplice: owner');
const BEFORE = Symbol('fdsplice: class before');

type Relayed = Socket & { [OWNER]?: SocketOwner | undefined; readonly [BEFORE]?: object };

/** Whether a relay has taken over this socket. A Proxy around it has the property too. */
export function isRelayed(stream: object): boolean {
  return (stream as Partial<Relayed>)[BEFORE] !== undefined;
}

/** Node itself reads 0 bytes, to start reading or to report the end of input. */
function readNothing(this: Socket, size?: number): null {
  if (size === 0) Socket.prototype.read.call(this, 0);
  return null;
}

function nothing(): void {}

const value = (method: unknown) => ({ value: method, writable: true, configurable: true });

/** Node does not read, and the first `destroy()` is reported. */
const HELD = {
  read: value(readNothing),
  [READ_MORE]: value(nothing),
  [DESTROY]: value(reportDestroy),
  [CALLED]: value(function (this: Relayed, call: RelayedCall) {
    this[OWNER]?.called(call);
  }),
};

/** As {@link HELD}, and `write`, `end` and `cork` are reported instead of being executed. */
const REFUSING = { ...HELD, write: value(refuseWrite), end: value(refuseEnd), cork: value(ignoreCork) };

/** One kind of these classes: its methods, and the class made from each counting prototype. */
interface Kind {
  readonly methods: PropertyDescriptorMap;
  readonly keys: readonly PropertyKey[];
  readonly made: WeakMap<object, object>;
}

const kind = (methods: PropertyDescriptorMap): Kind => ({
  methods,
  keys: Reflect.ownKeys(methods).filter((key) => key !== CALLED),
  made: new WeakMap(),
});
const HELD_KIND = kind(HELD);
const REFUSING_KIND = kind(REFUSING);

function classOf({ methods, made }: Kind, before: object): object {
  const known = made.get(before);
  if (known !== undefined) return known;
  const created = Object.create(before, { ...methods, [BEFORE]: { value: before } }) as object;
  made.set(before, created);
  return created;
}

/**
 * Takes a socket over in one synchronous step: Node takes no byte from it any more, and calls are reported to `owner`. With
 * `refuses`, writes of the socket's owner are refused from now on; otherwise {@link refuseCalls} refuses them later. Returns
 * an overlay on methods that are properties of the socket itself; `undefined` for a socket without such methods.
 */
export function takeSocket(
  socket: Socket,
  owner: SocketOwner,
  refuses: boolean,
): PropertyOverlay | undefined {
  const relayed: Relayed = socket;
  // Before the change of the class, for the reason given at `reserveAccount`.
  relayed[OWNER] = owner;
  reserveAccount(socket);
  const used = refuses ? REFUSING_KIND : HELD_KIND;
  changeClass(socket, classOf(used, counted(Object.getPrototypeOf(socket) as object)));
  // Without this, an end of input that Node has already read would make Node send FIN.
  socket.allowHalfOpen = true;
  const overlay = coverOwn(socket, used);
  if (isNodeReading(socket)) stopReading(socket);
  return overlay;
}

/** Refuses writes by the owner of a socket that was taken over, from now on. */
export function refuseCalls(
  socket: Socket,
  overlay: PropertyOverlay | undefined,
): PropertyOverlay | undefined {
  const before = (socket as Relayed)[BEFORE];
  if (before === undefined) return overlay;
  changeClass(socket, classOf(REFUSING_KIND, before));
  return coverOwn(socket, REFUSING_KIND, overlay);
}

/** Covers methods of the socket itself, such as a replaced `cork` or `_destroy`. Few sockets have any. */
function coverOwn(
  socket: Socket,
  { keys, methods }: Kind,
  overlay?: PropertyOverlay,
): PropertyOverlay | undefined {
  let used = overlay;
  for (const key of keys) {
    if (!Object.hasOwn(socket, key)) continue;
    const own: unknown = Reflect.get(socket, key);
    const method: unknown = methods[key]?.value;
    // Covered before, when the class was the first kind.
    if (own === method || (key === DESTROY && overlay !== undefined)) continue;
    used ??= new PropertyOverlay(socket);
    used.set(key, key === DESTROY && typeof own === 'function' ? reportingDestroy(own) : method);
  }
  return used;
}

// eslint-disable-next-line @typescript-eslint/no-unsafe-function-type -- any function that the owner has assigned
function reportingDestroy(own: Function) {
  return function (this: Relayed, ...args: unknown[]): void {
    this[OWNER]?.called('destroy');
    Reflect.apply(own, this, args);
  };
}

/** Gives back the class of a socket that is about to be destroyed. Its counts stay. */
export function releaseSocket(
  socket: Socket,
  owner: SocketOwner,
  overlay: PropertyOverlay | undefined,
  allowHalfOpen: boolean,
): void {
  const { [BEFORE]: before, [OWNER]: current } = socket as Relayed;
  if (before === undefined || current !== owner) return;
  // A socket to which no property can be added any more keeps the class, with which it is destroyed as well.
  if (Object.isExtensible(socket)) changeClass(socket, before);
  overlay?.detach();
  socket.allowHalfOpen = allowHalfOpen;
}

// Listeners, shared by all sockets.

function onConnect(this: Relayed): void {
  this.off('connect', onConnect);
  this[OWNER]?.connected();
}

function onClose(this: Relayed): void {
  this[OWNER]?.closed();
}

/** Keeps Node from throwing the errors of a socket, which are in the result alone. */
export function ignoreErrors(socket: Socket): void {
  socket.on('error', nothing);
}

/** Reports to the owner of a socket that was taken until {@link stopListening}, and ignores its errors. */
export function listen(socket: Socket): void {
  ignoreErrors(socket);
  socket.on('close', onClose);
  if (socket.connecting) socket.on('connect', onConnect);
}

/** Reports nothing more to `owner`. */
export function stopListening(socket: Socket, owner: SocketOwner, isListening: boolean): void {
  if ((socket as Relayed)[OWNER] !== owner) return;
  if (isListening) {
    socket.off('error', nothing);
    socket.off('close', onClose);
    socket.off('connect', onConnect);
  }
  (socket as Relayed)[OWNER] = undefined;
}
