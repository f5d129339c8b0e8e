// Failures of system calls, injected by strace. A transfer either completes correctly or fails with the code of the system
// and exact counts. It never hangs, spins or alters a byte.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { ExecutionContext } from 'ava';

import { coreTestWithTool } from '../helpers/tools.js';
import { ended, nodeArguments, started } from '../helpers/copy-child.js';
import { sha256 } from '../helpers/copy-files.js';
import { Peer } from '../helpers/peer.js';
import { RelayProcess } from '../helpers/processes/relay-process.js';
import { until, within } from '../helpers/wait.js';

const MiB = 1 << 20;
const BYTES = 24 * MiB + 3;

/** A command prefix that injects faults into system calls and discards the output of strace. */
function injecting(...faults: string[]): string[] {
  const calls = faults.map((fault) => fault.slice(0, fault.indexOf(':')));
  const injections = faults.flatMap((fault) => ['-e', `inject=${fault}`]);
  return ['strace', '-f', '-qq', '-o', '/dev/null', '-e', `trace=${calls.join()}`, ...injections];
}

interface Case {
  faults: string[];
  /** The code of the failure. If absent, every byte must arrive. */
  code?: string;
  syscall?: string;
}

/** Faults and their expected effect. `when` skips the calls that Node makes while it starts. */
const RELAYS: Record<string, Case> = {
  'splice interrupted every third time': { faults: ['splice:error=EINTR:when=1+3'] },
  'splice not available at all (a filter, another kernel)': { faults: ['splice:error=ENOSYS'] },
  'splice refused by a policy from the 20th time on': { faults: ['splice:error=EPERM:when=20+'] },
  'splice that stops working amid bulk': { faults: ['splice:error=EINVAL:when=51+'] },
  'splice without memory': { faults: ['splice:error=ENOMEM:when=30'], code: 'ENOMEM', syscall: 'splice' },
  'receives and sends interrupted': {
    faults: ['splice:error=EINVAL', 'recvfrom:error=EINTR:when=1+3', 'sendto:error=EINTR:when=1+3'],
  },
  'sends without buffers': {
    faults: ['splice:error=EINVAL', 'sendto:error=ENOBUFS:when=40'],
    code: 'ENOBUFS',
    syscall: 'send',
  },
  'receives without memory': {
    faults: ['splice:error=EINVAL', 'recvfrom:error=ENOMEM:when=40'],
    code: 'ENOMEM',
    syscall: 'recv',
  },
  'no descriptors for pipes': { faults: ['pipe2:error=EMFILE:when=8+'] },
  'no pipes in the whole system': { faults: ['pipe2:error=ENFILE:when=8+'] },
  'no memory for pipes': { faults: ['pipe2:error=ENOMEM:when=8+'] },
  'waits for events interrupted': { faults: ['epoll_wait:error=EINTR:when=30+7'] },
};

for (const [name, { faults, code, syscall }] of Object.entries(RELAYS)) {
  coreTestWithTool('strace', `a relay: ${name}`, async (t) => {
    const peer = Peer.start(t);
    const relay = await RelayProcess.start(t, peer, injecting(...faults));
    const { client, origin } = await relay.connect();
    const writing = peer
      .write(client, BYTES, 1)
      .then((sent) => peer.shutdown(client).then(() => sent))
      .catch(() => undefined);
    const arrived = await within(60_000, 'an end', peer.readToEnd(origin));
    const sent = await writing;
    if (code === undefined) {
      t.deepEqual(arrived, { bytes: BYTES, sha256: sent?.sha256 ?? '', end: 'eof' });
      const [back, answer] = await Promise.all([peer.read(client, 1000), peer.write(origin, 1000, 2)]);
      t.like(back, answer);
      await peer.shutdown(origin);
    } else {
      t.is(arrived.end, 'reset', 'a truncated stream does not look complete');
      t.is(arrived.sha256, await peer.hash(1, arrived.bytes));
    }
    const [ending] = await until(
      'the relay has ended',
      () => relay.endings(),
      ({ length }) => length === 1,
    );
    t.log(JSON.stringify(ending));
    if (code === undefined) t.like(ending, { tx: BYTES, rx: 1000, code: null });
    else t.like(ending, { code, syscall: syscall ?? '' });
    t.true((ending?.tx ?? 0) >= arrived.bytes && (ending?.tx ?? 0) <= BYTES);
    t.like(await relay.stats(), { active: 0, pipes: { leased: 0 } });
    await relay.end();
  });
}

/**
 * After EAGAIN the kernel owes an event. A kernel that breaks this promise would stall every program that uses
 * edge-triggered epoll. The idle timeout is the defence.
 */
for (const fault of [
  'splice:error=EAGAIN:when=2+4',
  'recvfrom:error=EAGAIN:when=5+5',
  'sendto:error=EAGAIN:when=5+5',
]) {
  coreTestWithTool('strace', `a false ${fault} ends a relay by its idle timeout at the latest`, async (t) => {
    const peer = Peer.start(t);
    const relay = await RelayProcess.start(t, peer, injecting(fault), { relay: { idleTimeout: 1500 } });
    const { client, origin } = await relay.connect();
    peer.write(client, BYTES, 1).then(
      () => peer.shutdown(client),
      () => undefined,
    );
    const arrived = await within(60_000, 'an end', peer.readToEnd(origin));
    t.is(arrived.sha256, await peer.hash(1, arrived.bytes));
    const [ending] = await until(
      'the relay has ended',
      () => relay.endings(),
      ({ length }) => length === 1,
    );
    t.log(JSON.stringify(ending));
    t.is(ending?.code, 'ERR_IDLE_TIMEOUT');
    if (arrived.end === 'eof') t.is(arrived.bytes, BYTES);
    else t.is(arrived.end, 'reset');
    t.like(await relay.stats(), { active: 0, pipes: { leased: 0 } });
    await relay.end();
  });
}

const COPIES: Record<string, Case & { verb: string }> = {
  'copy_file_range refused from the start': { verb: 'copy', faults: ['copy_file_range:error=EXDEV'] },
  'copy_file_range that fails after a success': {
    verb: 'copy',
    faults: ['copy_file_range:error=EIO:when=1'],
  },
  'copy_file_range interrupted': { verb: 'copy', faults: ['copy_file_range:error=EINTR:when=1+2'] },
  'copy_file_range that copies nothing': { verb: 'copy', faults: ['copy_file_range:retval=0:when=1'] },
  'copy_file_range without room': {
    verb: 'copy',
    faults: ['copy_file_range:error=ENOSPC:when=2'],
    code: 'ENOSPC',
    syscall: 'copy_file_range',
  },
  'neither copy_file_range nor splice': {
    verb: 'copy',
    faults: ['copy_file_range:error=ENOSYS', 'splice:error=EINVAL'],
  },
};

/** Copies a file to a file in a process with faults. Returns its report and the written bytes. */
async function copied(t: ExecutionContext, faults: string[], bytes: Buffer) {
  const directory = mkdtempSync(join(tmpdir(), 'fdsplice-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const [from, to] = [join(directory, 'from'), join(directory, 'to')];
  writeFileSync(from, bytes);
  const body = `
    import { openSync } from 'node:fs';
    import { copy, stats } from 'fdsplice';
    const { tx, error } = await copy(openSync(${JSON.stringify(from)}), openSync(${JSON.stringify(to)}, 'w'), { reject: false });
    const { leased } = stats().pipes;
    console.log(JSON.stringify({ tx, code: error?.code ?? null, syscall: error?.syscall ?? null, leased }));
    process.exit(0);
  `;
  const [program = '', ...args] = [...injecting(...faults), process.execPath, ...nodeArguments(body)];
  const { code, stdout, stderr } = await ended(started(t, program, args, ['ignore', 'pipe', 'pipe']));
  t.is(code, 0, stderr);
  const report = JSON.parse(stdout.toString()) as { tx: number; code: string | null; syscall: string | null };
  return { report, written: readFileSync(to) };
}

for (const [name, { faults, code, syscall }] of Object.entries(COPIES)) {
  coreTestWithTool('strace', `a copy of a file: ${name}`, async (t) => {
    const bytes = Buffer.alloc(5 * MiB + 1);
    for (let at = 0; at < bytes.length; at += 4) bytes.writeUInt8((at * 2654435761) & 0xff, at);
    const { report, written } = await copied(t, faults, bytes);
    t.deepEqual(report, {
      tx: code === undefined ? bytes.length : report.tx,
      code: code ?? null,
      syscall: syscall ?? null,
      leased: 0,
    } as typeof report);
    t.is(written.length, report.tx, 'the file has as many bytes as are counted');
    t.is(sha256(written), sha256(bytes.subarray(0, report.tx)));
  });
}
