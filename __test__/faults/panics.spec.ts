// A fault inside the core that ends a whole worker thread: its transfers fail, and the next one gets another worker.
import { fileURLToPath } from 'node:url';

import { ended, started } from '../helpers/copy-child.js';
import { coreTestWithTool } from '../helpers/tools.js';

const PROGRAM = fileURLToPath(new URL('../helpers/processes/panic-process.mjs', import.meta.url));

// Only the core calls epoll_wait: Node calls epoll_pwait. Other architectures have no epoll_wait.
if (process.arch === 'x64') {
  coreTestWithTool(
    'strace',
    'a worker thread that panics fails its relay and resets both peers, and the next relay works',
    async (t) => {
      const fault = 'inject=epoll_wait:error=EBADF:when=60';
      const trace = ['-D', '-f', '-qq', '-o', '/dev/null', '-e', 'trace=epoll_wait', '-e', fault];
      const child = started(t, 'strace', [...trace, process.execPath, PROGRAM], ['ignore', 'pipe', 'pipe']);
      const { code, stdout, stderr } = await ended(child);
      const message = 'an internal error ended the transfer, after n bytes';
      t.deepEqual(
        stdout
          .toString()
          .trim()
          .split('\n')
          .map((line) => JSON.parse(line) as unknown),
        [
          ['ERR_INVALID_STATE', message, true, ['ECONNRESET', 'ECONNRESET']],
          // Transfers running and failed.
          [0, 1],
          [null, null, true, []],
          [28],
        ],
      );
      t.is(code, 0);
      t.regex(stderr, /panicked/);
    },
  );
}
