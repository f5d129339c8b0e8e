// Tries every undocumented part of Node that native transfers rely on, before the first one starts. Each part is tried
// for its effect on a real connection, because a part that merely exists may work differently in a later Node. All of
// this is synchronous: the engine is chosen while a transfer is being called.
//
// Four parts are not tried. The classes `FileHandle` and `UpgradeStream` and a timer that has fired cannot be had
// synchronously, and the socket below TLS is used by the stream engine alone. A FileHandle with another class name is
// refused as an argument.
import { closeSync, readSync } from 'node:fs';
import { Socket } from 'node:net';
import { constants } from 'node:os';
import { Writable } from 'node:stream';
import { account, stopAccounting } from './byte-counters.js';
import { carrierOf, replaceClose } from './carrier-internals.js';
import { fireIdleTimer, ON_IDLE, reportIdle, RESTART_IDLE } from './idle-timer-internals.js';
import {
  creditBody,
  descriptorOf,
  forgetPendingRead,
  interceptReads,
  interceptSystemWrites,
  isNodeReading,
  isNodeSocket,
  isTcp,
  lacks,
  messageOn,
  PROBLEMS,
  queuedInHandle,
  readAgain,
  SENDS_BODY,
  sendsBody,
  sentHeaders,
  startReading,
  stopReading,
} from './internals.js';
import { PropertyOverlay } from './overlay.js';

/** `postponed`: there are no descriptors for the probe now, and none for a transfer either. */
export type Verdict = 'passed' | 'postponed' | { reason: string };

/** A connected pair: a socket of Node's, and a descriptor whose reads block for a limited time. */
interface Scene {
  readonly socket: Socket;
  /** The descriptor that the socket was made of. */
  readonly near: number;
  readonly far: number;
  /** Bytes that were written to the socket and not read at the far end yet. */
  outgoing: string;
  /** A socket without a connection that can only be written to. */
  writable?: Socket;
  /** The message whose headers were sent, until its body is checked. */
  http?: ReturnType<typeof messageOn>;
}

/** More than the buffers of the pair hold. */
const TOO_MUCH = 1024 * 1024;

/** In the order in which they are tried on one socket; the last two close it. */
const CHECKS: readonly [problem: keyof typeof PROBLEMS, works: (scene: Scene) => boolean][] = [
  ['descriptor', ({ socket, near }) => descriptorOf(socket) === near],
  ['genuine', ({ socket }) => isNodeSocket(socket) && isTcp(socket) === hasAddress(socket)],
  ['reading', ({ socket }) => isReading(socket)],
  ['stopReading', stopReadingWorks],
  ['readAgain', readAgainWorks],
  ['interceptReads', interceptReadsWorks],
  ['oneWay', oneWayWorks],
  ['interceptWrites', interceptWritesWorks],
  ['interceptEnd', interceptEndWorks],
  ['restartIdle', restartIdleWorks],
  ['counts', countsWork],
  ['onIdle', onIdleWorks],
  ['sentHeaders', sentHeadersWork],
  ['sendsBody', sendsBodyWorks],
  ['creditBody', creditBodyWorks],
  ['writeQueue', writeQueueWorks],
  ['close', closeWorks],
  ['reset', resetWorks],
];

/** Tries all parts; `reason` names the first one that does not do what it should. Never throws. */
export function probeInternals(core: { loopbackPair(): number[] }): Verdict {
  let pair;
  try {
    pair = core.loopbackPair();
  } catch {
    return 'postponed';
  }
  const [near = -1, far = -1] = pair;
  let socket: Socket | undefined;
  let problem: string | undefined;
  try {
    socket = withNodesMethods(new Socket({ fd: near, allowHalfOpen: true }).on('error', () => {}));
    problem = firstProblem({ socket, near, far, outgoing: '' });
  } catch (error) {
    problem = `a socket cannot be made of a descriptor: ${String(error)}`;
  } finally {
    if (socket === undefined) close(near);
    else socket.destroy();
    close(far);
  }
  return problem === undefined ? 'passed' : { reason: `in Node ${process.versions.node}, ${problem}` };
}

/**
 * Gives a socket Node's own methods. A program can replace `write` for all sockets, to count or to delay; that is no fault
 * of Node, and its code must not run for a socket of the probe.
 */
function withNodesMethods(socket: Socket): Socket {
  const methods: Pick<Writable, 'write' | 'end'> = Writable.prototype;
  return Object.assign(socket, { write: methods.write, end: methods.end });
}

/** Closes a descriptor through a socket. In a worker, `closeSync` warns of descriptors that Node did not open. */
function close(fd: number): void {
  try {
    new Socket({ fd, readable: false, writable: false }).destroy();
  } catch {
    closeSync(fd);
  }
}

function firstProblem(scene: Scene): string | undefined {
  for (const [name, works] of CHECKS) {
    try {
      if (!works(scene)) return PROBLEMS[name];
    } catch (error) {
      return `${PROBLEMS[name]} (${String(error)})`;
    }
  }
  return undefined;
}

/** A Unix socket pair has no address. */
function hasAddress(socket: Socket): boolean {
  return 'address' in socket.address();
}

/** libuv refuses to start reading twice, which shows whether it reads. Starts reading if it did not. */
function isReading(socket: Socket): boolean {
  return isNodeReading(socket) && startReading(socket) === -constants.errno.EALREADY;
}

function stopReadingWorks({ socket }: Scene): boolean {
  stopReading(socket);
  const hasStopped = !isNodeReading(socket) && startReading(socket) === 0;
  stopReading(socket);
  return hasStopped;
}

function readAgainWorks({ socket }: Scene): boolean {
  readAgain(socket);
  const reads = isReading(socket);
  stopReading(socket);
  return reads && !isNodeReading(socket);
}

function interceptReadsWorks({ socket }: Scene): boolean {
  const overlay = new PropertyOverlay(socket);
  let requests = 0;
  interceptReads(overlay, () => (requests += 1));
  try {
    for (const expected of [1, 2]) {
      forgetPendingRead(socket);
      socket.read(0);
      if (requests !== expected) return false;
    }
  } finally {
    overlay.restore();
  }
  return !isNodeReading(socket);
}

function oneWayWorks(scene: Scene): boolean {
  const readable = new Socket({ readable: true, writable: false });
  const writable = withNodesMethods(new Socket({ readable: false, writable: true }));
  scene.writable = writable;
  readable.destroy();
  return (
    lacks(readable, 'writable') &&
    lacks(writable, 'readable') &&
    !lacks(scene.socket, 'readable') &&
    !lacks(scene.socket, 'writable')
  );
}

function interceptWritesWorks(scene: Scene): boolean {
  const { socket } = scene;
  const overlay = new PropertyOverlay(socket);
  const held: (() => void)[] = [];
  interceptSystemWrites(overlay, socket, (call) => held.push(call));
  try {
    // The first write is held. Each of the others waits for the one before, and is then held by itself.
    for (const chunk of ['a', 'b', 'c']) socket.write(chunk);
    for (const index of [0, 1, 2]) {
      if (held.length !== index + 1) return false;
      held[index]?.();
    }
  } finally {
    overlay.restore();
  }
  return arrives(scene, 'abc');
}

function interceptEndWorks({ writable }: Scene): boolean {
  if (writable === undefined) return false;
  const overlay = new PropertyOverlay(writable);
  let isHeld = false;
  interceptSystemWrites(overlay, writable, () => (isHeld = true));
  writable.end();
  writable.destroy();
  return isHeld;
}

/** Node calls it for every write. */
function restartIdleWorks(scene: Scene): boolean {
  const { socket } = scene;
  const overlay = new PropertyOverlay(socket);
  let isCalled = false;
  overlay.set(RESTART_IDLE, () => (isCalled = true));
  try {
    socket.write('d');
  } finally {
    overlay.restore();
  }
  return arrives(scene, 'd') && isCalled;
}

function countsWork({ socket }: Scene): boolean {
  const { bytesRead, bytesWritten } = socket;
  const transfer = { moved: () => ({ read: 5, written: 7 }), idleMs: () => 0 };
  account(socket, transfer);
  stopAccounting(socket, transfer);
  return socket.bytesRead === bytesRead + 5 && socket.bytesWritten === bytesWritten + 7 && bytesWritten > 0;
}

function onIdleWorks({ socket }: Scene): boolean {
  const overlay = new PropertyOverlay(socket);
  let isCalled = false;
  overlay.set(ON_IDLE, () => (isCalled = true));
  fireIdleTimer(socket);
  overlay.restore();
  let isReported = false;
  socket.once('timeout', () => (isReported = true));
  reportIdle(socket);
  return isCalled && isReported;
}

function sentHeadersWork(scene: Scene): boolean {
  scene.http = messageOn(scene.socket, 5);
  const headers = sentHeaders(scene.http.message);
  return /^content-length: 5\r$/im.test(headers) && arrives(scene, headers);
}

function sendsBodyWorks({ http, socket }: Scene): boolean {
  if (http === undefined || sendsBody(http.message) !== true) return false;
  const { message } = http;
  const before = socket.bytesWritten;
  const overlay = new PropertyOverlay(message);
  overlay.set(SENDS_BODY, false);
  message.write('e');
  overlay.restore();
  return socket.bytesWritten === before;
}

function creditBodyWorks({ http }: Scene): boolean {
  if (http === undefined) return false;
  const { message, detach } = http;
  message.strictContentLength = true;
  creditBody(message, 4);
  let isCompared = false;
  try {
    message.end();
  } catch {
    isCompared = true;
  }
  creditBody(message, 1);
  message.end();
  detach();
  return isCompared && message.strictContentLength;
}

function writeQueueWorks({ socket }: Scene): boolean {
  const before = queuedInHandle(socket);
  socket.write(Buffer.alloc(TOO_MUCH));
  const added = queuedInHandle(socket) - before;
  return added > 0 && added <= TOO_MUCH;
}

function closeWorks({ socket }: Scene): boolean {
  const handle = carrierOf(socket)?.handle();
  // Without a reset, the next check fails.
  if (handle === undefined) return true;
  const close = handle.close.bind(handle);
  let isCalled = false;
  replaceClose(handle, (done) => {
    isCalled = true;
    if (handle.reset(done) !== 0) close(done);
  });
  socket.destroy();
  return isCalled;
}

/** The peer of a connection that was reset reads what has arrived, and then fails. */
function resetWorks({ socket, far }: Scene): boolean {
  // A Unix socket has no reset.
  if (!socket.destroyed) return !isTcp(socket);
  const buffer = Buffer.allocUnsafe(64 * 1024);
  try {
    while (readSync(far, buffer) > 0);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ECONNRESET';
  }
}

/**
 * Whether the bytes that were just written to the socket arrive at the far end. The kernel may accept only a part of a
 * write, and Node writes the rest later. So only the bytes that do not wait in the handle are read and compared. Throws if
 * they do not arrive.
 */
function arrives(scene: Scene, written: string): boolean {
  scene.outgoing += written;
  const length = scene.outgoing.length - queuedInHandle(scene.socket);
  const buffer = Buffer.alloc(Math.max(0, length));
  let received = 0;
  while (received < length) {
    const bytes = readSync(scene.far, buffer, received, length - received, null);
    if (bytes === 0) break;
    received += bytes;
  }
  const isSame = buffer.toString('latin1') === scene.outgoing.slice(0, buffer.length);
  scene.outgoing = scene.outgoing.slice(buffer.length);
  return isSame;
}
