import { readdirSync, readFileSync } from 'node:fs';

/**
 * Milliseconds for which what moves bytes in this process was ready to run and did not: waiting for a processor
 * (the second number of `/proc/PID/task/TID/schedstat`, of the thread that waited longest), or taken from this whole
 * machine by its host ("steal" in `/proc/stat`). Only differences mean anything.
 */
export function withheld(): number {
  const waited = readdirSync('/proc/self/task').map((thread) => {
    try {
      const folder = `/proc/self/task/${thread}`;
      const moves =
        Number(thread) === process.pid || readFileSync(`${folder}/comm`, 'utf8').startsWith('fdsplice-');
      return moves ? Number(readFileSync(`${folder}/schedstat`, 'utf8').split(' ')[1]) / 1e6 : 0;
    } catch {
      // The thread has ended meanwhile.
      return 0;
    }
  });
  const stolen = Number(readFileSync('/proc/stat', 'utf8').split('\n')[0]?.split(/ +/)[8] ?? 0) * 10;
  return Math.max(...waited) + stolen;
}
