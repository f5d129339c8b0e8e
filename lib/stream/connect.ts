// Connections that Node makes, in a process without the core.
import { connect, isIP, type Socket } from 'node:net';
import { clearTimeout, now, setTimeout } from '../contract/clock.js';
import { connectFailure, connectTimedOut } from '../contract/connect-errors.js';
import { type ConnectSettings, partsOf } from '../contract/connect-settings.js';
import { type Failure, nodeFailure, thrown } from '../contract/errors.js';
import { OpenConnection } from '../endpoint/connection.js';

/** Connects by Node. Calls `settled` once, unless the returned function gives the connect up before. */
export function connectByNode(
  { target, localAddress, timeout }: ConnectSettings,
  settled: (result: OpenConnection | Failure) => void,
): () => void {
  const startedAt = now();
  const { path, host, port } = partsOf(target) as { path?: string; host: string; port: number };
  const family = isIP(localAddress ?? '');
  const socket =
    path === undefined
      ? connect({
          host,
          port,
          allowHalfOpen: true,
          noDelay: true,
          // Node would bind an address of one family for those of the other too.
          ...(localAddress === undefined ? {} : { localAddress, family }),
        })
      : connect({ path, allowHalfOpen: true });
  // The first transfer reads. Until then, bytes wait in the kernel.
  socket.pause();
  const settle = (result: OpenConnection | Failure) => {
    stop();
    settled(result);
  };
  const failed = (error: Error) => settle(failureOf(target, error));
  const connected = () => {
    const connectMs = now() - startedAt;
    settle(new OpenConnection(target, socket, ...addressesOf(socket, path), connectMs));
  };
  const timer = setTimeout(() => {
    giveUp();
    settled(connectTimedOut(target));
  }, timeout);
  const stop = () => {
    clearTimeout(timer);
    socket.off('error', failed).off('connect', connected);
  };
  const giveUp = () => {
    stop();
    socket.on('error', () => {}).destroy();
  };
  socket.on('error', failed).on('connect', connected);
  return giveUp;
}

/** The local and the remote address. Node has none for Unix sockets. */
function addressesOf(socket: Socket, path: string | undefined): [local: string, remote: string] {
  if (path !== undefined) return ['unix:', `unix:${path}`];
  const { localAddress, localPort, remoteAddress, remotePort } = socket;
  const text = (address = '', port = 0) =>
    isIP(address) === 6 ? `[${address}]:${port}` : `${address}:${port}`;
  return [text(localAddress, localPort), text(remoteAddress, remotePort)];
}

function failureOf(target: string, error: Error): Failure {
  const { code, errno, syscall } = nodeFailure(undefined, error) ?? thrown(error);
  return connectFailure(target, { code, errno, syscall });
}
