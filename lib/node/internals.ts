// Names parts of Node that its documentation does not: the handles behind sockets, the state of streams, hooks of
// net.Socket, and fields of HTTP responses. Only this file, carrier-internals.ts and idle-timer-internals.ts do that. They
// are the same in Node 20 to 26. Each function states what it is for and what happens in a Node without that part;
// probe.ts tries them before a transfer relies on them.
import type { EventEmitter } from 'node:events';
import { OutgoingMessage, type ServerResponse } from 'node:http';
import type { ServerHttp2Stream } from 'node:http2';
import { Socket } from 'node:net';
import { types } from 'node:util';
import type { PropertyOverlay } from './overlay.js';

/** The C++ object behind an open socket. */
export interface Handle {
  readonly fd: number;
  /** Node's own record of whether it reads. It starts reading only where this is `false`. */
  reading: boolean;
  readonly writeQueueSize: number;
  readonly _externalStream?: unknown;
  readonly _parent?: unknown;
  readStart(): number;
  readStop(): number;
}

interface SocketInternals {
  _handle?: Handle | null;
  _readableState?: { reading: boolean; readable?: boolean; pipes?: object[] | object | null };
  _writableState?: { writable?: boolean };
}

type WriteCallback = (error?: Error | null) => void;

function internalsOf(socket: Socket): Socket & SocketInternals {
  return socket;
}

export function handleOf(socket: Socket): Handle | null | undefined {
  return internalsOf(socket)._handle;
}

// Handles

function handleKind(socket: Socket): string | undefined {
  return handleOf(socket)?.constructor.name;
}

/** Whether a socket is open: one that is closed, or that was never connected, has no handle. */
export function hasHandle(socket: Socket): boolean {
  return handleOf(socket) != null;
}

/**
 * Whether an open socket is a TCP connection. Without the name, TCP sockets would be taken for pipes, and would be
 * inspected by system calls that they do not need.
 */
export function isTcp(socket: Socket): boolean {
  return handleKind(socket) === 'TCP';
}

/** Whether an open socket is a terminal. Without the name, the process's own terminal would be an end of a relay. */
export function isTerminal(socket: Socket): boolean {
  return handleKind(socket) === 'TTY';
}

/** Whether the handle of a socket was made by Node: only Node can make the external value in it. */
export function hasNodesHandle(socket: Socket): boolean {
  return types.isExternal(handleOf(socket)?._externalStream);
}

/** The descriptor of an open socket. Without the field, no socket can be moved by descriptor. */
export function descriptorOf(socket: Socket): number | undefined {
  const fd = handleOf(socket)?.fd;
  return fd !== undefined && fd >= 0 ? fd : undefined;
}

/**
 * Whether a socket is one of Node's, with a handle of Node's. A Proxy, or an object made from a socket, has the
 * descriptor of another socket, and an object that imitates a handle can hold any number. Only Node can make the
 * external value in a handle. Without it, no socket that is open would be moved by descriptor.
 */
export function isNodeSocket(socket: Socket): boolean {
  if (types.isProxy(socket) || !Object.hasOwn(socket, '_readableState')) return false;
  const handle = handleOf(socket);
  if (handle == null) return true;
  const kind = handle.constructor.name;
  return (kind === 'TCP' || kind === 'Pipe' || kind === 'TTY') && types.isExternal(handle._externalStream);
}

/** The class is not public. Without the name, a FileHandle would be refused as an argument of the wrong type. */
export function isFileHandle(value: object): value is { fd: number } {
  return value.constructor?.name === 'FileHandle';
}

// Reading

const READS = ['read', 'push', '_read'] as const;
const WRITES = ['write', 'end', '_write', '_writev', '_final'] as const;

/**
 * Whether a socket or its class has methods of its own to read or to write, which bytes moved by descriptor would
 * bypass. Without these methods in Node's streams, such a method could change its bytes unnoticed.
 */
export function overrides(socket: Socket, direction: 'reads' | 'writes'): boolean {
  const methods: readonly (keyof Socket)[] = direction === 'reads' ? READS : WRITES;
  // Node itself replaces `write` by this function at the end of the input of a socket that it then ends.
  const isNodes = (name: keyof Socket) => name === 'write' && socket.write.name === 'writeAfterFIN';
  return methods.some((name) => socket[name] !== Socket.prototype[name] && !isNodes(name));
}

/** Whether a method to read or to write was replaced on a stream alone. Without it, as above. */
export function hasOwnMethods(stream: object, direction: 'reads' | 'writes'): boolean {
  return (direction === 'reads' ? READS : WRITES).some((name) => Object.hasOwn(stream, name));
}

/**
 * The state of one direction of a stream. It is the same object for a stream, for a Proxy around it and for an object that
 * inherits from it. Without it, each of them would be taken for a stream of its own.
 */
export function stateOf(stream: object, direction: 'readable' | 'writable'): object {
  const { _readableState: reads, _writableState: writes } = stream as Partial<SocketInternals>;
  return (direction === 'readable' ? reads : writes) ?? stream;
}

/**
 * Whether a socket was made for one direction only, as the pipes of a child process are, and `direction` is the other
 * one. Without the flag, such a transfer would fail when it has started, and not as a caller's mistake.
 */
export function lacks(socket: Socket, direction: 'readable' | 'writable'): boolean {
  const { _readableState: reads, _writableState: writes } = internalsOf(socket);
  return (direction === 'readable' ? reads?.readable : writes?.writable) === false;
}

/** Whether Node reads from the descriptor of a socket. Without the flag, Node would take bytes of the transfer. */
export function isNodeReading(socket: Socket): boolean {
  return handleOf(socket)?.reading === true;
}

/** Stops Node's reading; {@link isNodeReading} stays true where the handle refuses. Without it, as there. */
export function stopReading(socket: Socket): void {
  const handle = handleOf(socket);
  if (handle == null) return;
  try {
    if (handle.readStop() === 0) handle.reading = false;
  } catch {
    // The handle goes on reading, and its flag stays set.
  }
}

/** Lets Node read again. Without it, a socket that is given back after a copy would stay silent. */
export function readAgain(socket: Socket): void {
  socket._read(0);
}

/** Starts reading, for the probe. The error number is that of a handle that reads already, or 0. */
export function startReading(socket: Socket): number {
  return handleOf(socket)?.readStart() ?? 0;
}

/**
 * The key of the method that Node calls to start reading. It is replaced, because Node would take bytes of the transfer.
 */
export const READ_MORE = '_read';

/** Calls `wanted` instead of reading when Node wants to start reading. */
export function interceptReads(overlay: PropertyOverlay, wanted: () => void): void {
  overlay.set(READ_MORE, wanted);
}

/**
 * Forgets that `read()` has requested bytes, so that the next request gets through. Without the flag, a socket that is
 * given back after a copy would stay silent.
 */
export function forgetPendingRead(socket: Socket): void {
  const { _readableState: state } = internalsOf(socket);
  if (state !== undefined) state.reading = false;
}

// Writing

/**
 * Bytes that the handle has accepted and the system has not. Without the count, a transfer would start before earlier
 * bytes have gone out, and a slow peer would look idle.
 */
export function queuedInHandle(socket: Socket): number {
  return handleOf(socket)?.writeQueueSize ?? 0;
}

/**
 * Gives each write and end that Node would hand to the system to `held`, as a call to make later. Without these hooks,
 * bytes from JavaScript would get in between those of the transfer.
 */
export function interceptSystemWrites(
  overlay: PropertyOverlay,
  socket: Socket,
  held: (call: () => void) => void,
): void {
  const { prototype } = Socket;
  overlay.set('_write', (chunk: Buffer, encoding: BufferEncoding, callback: WriteCallback) => {
    held(() => prototype._write.call(socket, chunk, encoding, callback));
  });
  // Without a method for several writes, Node makes them one by one.
  overlay.set('_writev', null);
  overlay.set('_final', (callback: WriteCallback) => {
    held(() => prototype._final.call(socket, callback));
  });
}

// Pipes

/**
 * The streams that a stream is piped to. Without the list, a pipe to a third stream is no mistake of the caller: a relay
 * takes it down, and a copy takes bytes from it.
 */
export function pipesOf(stream: object): readonly object[] {
  const pipes = (stream as Partial<SocketInternals>)._readableState?.pipes ?? [];
  // In place of a list, a stream of another package may have its only destination.
  return Array.isArray(pipes) ? (pipes as object[]) : [pipes];
}

/**
 * How many pipes lead into a stream: each of them listens to 'unpipe'. Without the name of the listener, a pipe from a third
 * stream is not noticed before it writes, which then fails the relay.
 */
export function pipesInto(stream: EventEmitter): number {
  return stream.listeners('unpipe').filter(({ name }) => name === 'onunpipe').length;
}

// The end of a stream

/**
 * The key of the method that `destroy()` calls first, once for each stream. Without it, of two streams that are destroyed in
 * one turn of the event loop, the one that closes first is blamed.
 */
export const DESTROY = '_destroy';

/**
 * Calls the {@link DESTROY} method of the class of a stream. `replacement` stands for it on the stream itself or on the first
 * prototypes.
 */
export function destroyByClass(stream: object, replacement: unknown, args: unknown[]): void {
  let prototype = Object.getPrototypeOf(stream) as { _destroy?: (...args: unknown[]) => void } | null;
  while (prototype?._destroy === replacement)
    prototype = Object.getPrototypeOf(prototype) as typeof prototype;
  prototype?._destroy?.apply(stream, args);
}

// Counts

/** Gives a socket another class, in which Node looks up the hooks of the idle timer. */
export function changeClass(socket: Socket, prototype: object): void {
  Object.setPrototypeOf(socket, prototype);
}

/** Node's own count, undefined before the socket has connected. The getter is on the prototype. */
export function ownCount(socket: Socket, key: 'bytesRead' | 'bytesWritten'): number {
  return Number(Reflect.get(Socket.prototype, key, socket) ?? 0);
}

// HTTP responses

/**
 * The status line and headers that a response has sent. Node keeps no other record of the headers that `writeHead` was
 * given. Without it, a body would be framed by stream, which is correct and slower.
 */
export function sentHeaders(response: object): string {
  return (response as { _header?: string | null })._header ?? '';
}

/** The key of the field that {@link sendsBody} reads, for the probe. */
export const SENDS_BODY = '_hasBody';

/**
 * Whether Node sends what is written as the body of a response. Node decides it from the method that it parsed and from
 * the status that it sent, so a program that changes `req.method` or `statusCode` later does not change it. `undefined`
 * in a Node without the field: the method of the request decides there, and the probe selects streams.
 */
export function sendsBody(response: ServerResponse): boolean | undefined {
  return (response as { [SENDS_BODY]?: boolean })[SENDS_BODY];
}

/**
 * Whether an HTTP/2 stream answers a HEAD request. Without the property, the writing side of the stream decides, which
 * Node ends for HEAD.
 */
export function answersHead(stream: ServerHttp2Stream): boolean {
  return (stream as { headRequest?: boolean }).headRequest ?? stream.writableEnded;
}

/** Whether Node has handed the headers of a response to its socket, as it does before the body. Without it: yes. */
export function areHeadersOut(response: ServerResponse): boolean {
  return (response as { _headerSent?: boolean })._headerSent ?? true;
}

/** Bytes that an HTTP/2 stream has handed to its session. Without the handle, the number is not known. */
export function dispatchedBytes(stream: ServerHttp2Stream): number | undefined {
  const key = Object.getOwnPropertySymbols(stream).find(({ description }) => description === 'kHandle');
  const handle =
    key === undefined ? undefined : (Reflect.get(stream, key) as { bytesWritten?: number } | null);
  return handle?.bytesWritten;
}

/** Node's count of the body under `strictContentLength`; the key is a symbol that is not public. */
function countKey(response: ServerResponse): symbol | undefined {
  return Object.getOwnPropertySymbols(response).find(({ description }) => description === 'kBytesWritten');
}

/** Bytes of the body that Node has counted; `undefined` where it does not count them. */
export function countedBody(response: ServerResponse): number | undefined {
  const key = response.strictContentLength ? countKey(response) : undefined;
  const counted: unknown = key === undefined ? undefined : Reflect.get(response, key);
  return typeof counted === 'number' ? counted : undefined;
}

/**
 * Adds bytes that the core has written to the count that `strictContentLength` compares. An object that inherits from a
 * response has no count of its own, and `end()` would throw for it, so the comparison is switched off there.
 */
export function creditBody(response: ServerResponse, bytes: number): void {
  const key = countKey(response);
  const counted: unknown = key === undefined ? undefined : Reflect.get(response, key);
  if (key !== undefined && typeof counted === 'number') Reflect.set(response, key, counted + bytes);
  else response.strictContentLength = false;
}

// Parts of the probe

interface MessageInternals {
  socket: Socket | null;
  _storeHeader(firstLine: string, headers: object): void;
}

/**
 * An HTTP message with a body of `length` bytes, whose headers were written to a socket. It is the base class of
 * responses: a `ServerResponse` would be published to subscribers of Node's diagnostics channels and performance
 * observers, and programs often replace its methods.
 */
export function messageOn(socket: Socket, length: number): { message: ServerResponse; detach: () => void } {
  const message = new OutgoingMessage() as ServerResponse & MessageInternals;
  const carrier = socket as Socket & { _httpMessage?: object | null };
  carrier._httpMessage = message;
  message.socket = socket;
  message._storeHeader('HTTP/1.1 200 OK\r\n', { 'Content-Length': length });
  message.flushHeaders();
  const detach = () => {
    carrier._httpMessage = null;
    message.socket = null;
  };
  return { message, detach };
}

/** For each part that the probe tries, the problem of a Node in which it does not do what it should. */
export const PROBLEMS = {
  descriptor: 'socket._handle.fd is not the descriptor of the socket',
  genuine: 'socket._handle is not a TCP or Pipe handle with an _externalStream of its own',
  reading: 'socket._handle.reading does not show that the socket is read from',
  stopReading: 'socket._handle.readStop() does not stop reading',
  readAgain: 'socket._read() does not start reading again',
  interceptReads:
    'socket._read is not called by each read() for which socket._readableState.reading was cleared',
  oneWay:
    'socket._readableState.readable and socket._writableState.writable do not show a socket for one direction',
  interceptWrites: 'socket._write and socket._writev are not the methods that write() calls',
  interceptEnd: 'socket._final is not the method that end() calls',
  restartIdle: 'socket._unrefTimer is not the method that starts the idle timer anew',
  counts: 'socket.bytesRead and socket.bytesWritten are not getters of net.Socket.prototype',
  onIdle: 'socket._onTimeout is not the method that the idle timer calls',
  sentHeaders: 'response._header does not hold the headers that were sent',
  sendsBody: 'response._hasBody does not decide whether a body is sent',
  creditBody: 'response[kBytesWritten] is not the count that strictContentLength compares',
  writeQueue: 'socket._handle.writeQueueSize does not count the bytes that wait in the handle',
  close: 'socket._handle.close is not the method that destroy() calls',
  reset: 'socket._handle.reset() does not reset the connection',
} as const;

/**
 * Whether a pipe from this stream ends its destination. `pipe` has a listener called `onend` for that; with
 * `{ end: false }` it has another one.
 */
export function isPipedToItsEnd(stream: EventEmitter): boolean {
  return stream.listeners('end').some(({ name }) => name === 'onend');
}
