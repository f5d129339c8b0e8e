// CPU time that was withheld from this process, so that tests of rates can discount a busy machine.
import { readdirSync, readFileSync } from 'node:fs';

/**
 * Milliseconds for which the threads that move bytes were ready to run but did not run. Two sources are added: the
 * longest wait of a thread for a processor (second number of `/proc/PID/task/TID/schedstat`), and the time that the
 * host took from this machine ("steal" in `/proc/stat`). Only differences between two calls are meaningful.
 */
export function withheld(): number {
  const waited = readdirSync('/proc/self/task').map((thread) => {
    try {
      const folder = `/proc/self/task/${thread}`;
      const moves =
        Number(thread) === process.pid || readFileSync(`${folder}/comm`, 'utf8').startsWith('fdsplice-');
      return moves ? Number(readFileSync(`${folder}/schedstat`, 'utf8').split(' ')[1]) / 1e6 : 0;
    } catch {
      // The thread has ended since the directory was read.
      return 0;
    }
  });
  const stolen = Number(readFileSync('/proc/stat', 'utf8').split('\n')[0]?.split(/ +/)[8] ?? 0) * 10;
  return Math.max(...waited) + stolen;
}
