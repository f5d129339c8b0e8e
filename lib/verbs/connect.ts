// connect(): an outgoing connection without a socket of Node's.
import { connectError } from '../contract/connect-errors.js';
import { connectSettings } from '../contract/connect-settings.js';
import type { Connection, ConnectOptions } from '../contract/connection.js';
import { aborted, type Failure } from '../contract/errors.js';
import type { Target } from '../contract/server-types.js';
import { binding } from '../core/core.js';
import { OpenConnection } from '../endpoint/connection.js';
import { connectNatively } from '../native/connect.js';
import { connectByNode } from '../stream/connect.js';
import { onAbort } from '../transfer/abort-signal.js';

/**
 * Connects to `target`: `'host:port'`, `'[::1]:port'`, `'unix:/path'`, or an object.
 *
 * A name is resolved by the resolver of the system on a thread of its own. Its addresses are used again for 2 s, a failure
 * for 1 s. They are tried as in RFC 8305: the families take turns, a new attempt starts every 250 ms, or at once when one
 * fails, and none is given up before one has succeeded. Without the core, `net.connect` of Node resolves and tries them.
 *
 * Cost: one descriptor and less than 0.5 KiB of JavaScript heap; there is no `net.Socket`. A transfer whose other end is a
 * stream, such as a TLS socket, makes one for the connection.
 *
 * Errors: rejects with a {@link TransferError} without `side` whose `syscall` is `'connect'` or `'getaddrinfo'`; its `code`
 * is that of the first attempt that failed, `ENOTFOUND` or an `EAI_` code of the resolver, or `ETIMEDOUT` after `timeout`
 * milliseconds. An aborted `signal` gives `ABORT_ERR`. A caller's mistake rejects with a `TypeError` or `RangeError`.
 * After each of them nothing is left: the sockets of all attempts are closed. A pending connect keeps the process alive.
 */
export async function connect(target: Target, options?: ConnectOptions): Promise<Connection> {
  const settings = connectSettings(target, options);
  const { signal } = settings;
  if (signal?.aborted === true) throw connectError(aborted(signal.reason));
  return new Promise((resolve, reject) => {
    let isSettled = false;
    let forgetSignal = () => {};
    const settle = (result: OpenConnection | Failure) => {
      isSettled = true;
      forgetSignal();
      if (result instanceof OpenConnection) resolve(result);
      else reject(connectError(result));
    };
    const begin = binding() === undefined ? connectByNode : connectNatively;
    const giveUp = begin(settings, settle);
    if (signal === undefined || isSettled) return;
    forgetSignal = onAbort(signal, (reason) => {
      giveUp();
      settle(aborted(reason));
    });
  });
}
