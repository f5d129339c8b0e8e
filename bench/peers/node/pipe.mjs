// A relay of two `pipe` calls, with the error handling that `pipe` lacks.
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
