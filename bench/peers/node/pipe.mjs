// A relay of two `pipe` calls, with the error handling that `pipe` lacks.
import { report, serve } from './serve.mjs';

serve((client, upstream) => {
  for (const [socket, other] of [
    [client, upstream],
    [upstream, client],
  ]) {
    socket.on('error', (error) => {
      report(error);
      other.destroy();
    });
    socket.pipe(other);
  }
});
