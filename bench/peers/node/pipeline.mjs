// A relay of one `stream.pipeline` through both sockets and back.
import { pipeline } from 'node:stream';
import { report, serve } from './serve.mjs';

serve((client, upstream) => {
  pipeline(client, upstream, client, (error) => {
    if (error) report(error);
  });
});
