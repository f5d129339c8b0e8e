// Two calls of `pipe`, with the errors that it does not pass on.
import { serve } from './serve.mjs';

serve((client, upstream) => {
  for (const [socket, other] of [
    [client, upstream],
    [upstream, client],
  ]) {
    socket.on('error', (error) => {
      console.error(String(error));
      other.destroy();
    });
    socket.pipe(other);
  }
});
