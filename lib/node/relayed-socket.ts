// The classes that a socket has while a relay moves its bytes by descriptor. Node then reads and writes nothing itself, and
// what its owner calls is reported to the relay. The methods are on a prototype that all relayed sockets of a class share:
// as properties of each socket, with what they replace, they would take a KiB of every idle relay.
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

/** Moreover, calls are reported instead of being made. */
const REFUSING = { write: value(refuseWrite), end: value(refuseEnd), cork: value(ignoreCork) };

const heldClasses = new WeakMap<object, object>();
const refusingClasses = new WeakMap<object, object>();

function derived(
  classes: WeakMap<object, object>,
  prototype: object,
  properties: PropertyDescriptorMap,
): object {
  let made = classes.get(prototype);
  if (made === undefined) {
    made = Object.create(prototype, properties) as object;
    classes.set(prototype, made);
  }
  return made;
}

function heldClass(prototype: object): object {
  const counting = counted(prototype);
  return derived(heldClasses, counting, { ...HELD, [BEFORE]: { value: counting } });
}

/**
 * Takes a socket over in one synchronous step: Node takes no byte from it any more, and the socket's own class, an overlay
 * on the methods that it has itself, and `owner` get what is called. Returns the way back for that overlay, if there is one.
 */
export function takeSocket(socket: Socket, owner: SocketOwner): PropertyOverlay | undefined {
  const relayed: Relayed = socket;
  // Before the change of the class, as there.
  relayed[OWNER] = owner;
  reserveAccount(socket);
  changeClass(socket, heldClass(Object.getPrototypeOf(socket) as object));
  // Without this, an end of input that Node has already read would make Node send FIN.
  socket.allowHalfOpen = true;
  const overlay = coverOwn(socket, HELD);
  if (isNodeReading(socket)) stopReading(socket);
  return overlay;
}

/** Refuses writes of the socket's owner from here on. */
export function refuseCalls(socket: Socket, overlay: PropertyOverlay | undefined): PropertyOverlay | undefined {
  changeClass(socket, derived(refusingClasses, Object.getPrototypeOf(socket) as object, REFUSING));
  return coverOwn(socket, REFUSING, overlay);
}

/** Covers methods that a socket has itself, as one whose `cork` or `_destroy` somebody has replaced. They are few. */
function coverOwn(
  socket: Socket,
  methods: PropertyDescriptorMap,
  overlay?: PropertyOverlay,
): PropertyOverlay | undefined {
  let used = overlay;
  for (const key of Reflect.ownKeys(methods)) {
    if (!Object.hasOwn(socket, key)) continue;
    const own: unknown = Reflect.get(socket, key);
    used ??= new PropertyOverlay(socket);
    used.set(key, key === DESTROY && typeof own === 'function' ? reportingDestroy(own) : methods[key]?.value);
  }
  return used;
}

// eslint-disable-next-line @typescript-eslint/no-unsafe-function-type -- whatever the owner has put there
function reportingDestroy(own: Function) {
  return function (this: Relayed, ...args: unknown[]): void {
    this[OWNER]?.called('destroy');
    Reflect.apply(own, this, args);
  };
}

/** Gives back the class of a socket that is about to be destroyed. Its counts stay. */
export function releaseSocket(socket: Socket, overlay: PropertyOverlay | undefined, allowHalfOpen: boolean): void {
  const before = (socket as Relayed)[BEFORE];
  if (before === undefined) return;
  changeClass(socket, before);
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

/**
 * Reports to the owner until {@link stopListening}. Failures are in the result alone; without a listener, Node would throw
 * them.
 */
export function listen(socket: Socket, owner: SocketOwner): void {
  (socket as Relayed)[OWNER] = owner;
  socket.on('error', nothing);
  socket.on('close', onClose);
  if (socket.connecting) socket.on('connect', onConnect);
}

/** Reports nothing more. */
export function stopListening(socket: Socket): void {
  socket.off('error', nothing);
  socket.off('close', onClose);
  socket.off('connect', onConnect);
  (socket as Relayed)[OWNER] = undefined;
}
