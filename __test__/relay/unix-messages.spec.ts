// Unix sockets whose peers send descriptors with their bytes: a relay passes on the bytes alone, and keeps none back.
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { relay } from 'fdsplice';

import { ended, started } from '../helpers/copy-child.js';
import { testWithTool } from '../helpers/tools.js';

/** Sends three messages with a descriptor and one without, then waits for the answer. */
const PEER = `
import array, socket, sys

peer = socket.socket(socket.AF_UNIX)
peer.connect(sys.argv[1])
peer.settimeout(30)
for part in (b"A" * 10, b"B" * 10, b"C" * 10):
    peer.sendmsg([part], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0]))])
peer.sendall(b"D" * 10)
print(peer.recv(100).decode())
`;

testWithTool(
  'python3',
  'bytes behind messages with descriptors reach the origin, which answers',
  async (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'fdsplice-'));
    t.teardown(() => rmSync(directory, { recursive: true }));
    const [front, back] = [join(directory, 'front'), join(directory, 'back')];
    let arrived = '';
    const origin = net.createServer((socket) => {
      socket.setEncoding('latin1').on('data', (data: string) => {
        arrived += data;
        if (arrived.length === 40) socket.end('answer');
      });
    });
    const gateway = net.createServer({ allowHalfOpen: true, pauseOnConnect: true });
    t.teardown(() => origin.close());
    t.teardown(() => gateway.close());
    await Promise.all([once(origin.listen(back), 'listening'), once(gateway.listen(front), 'listening')]);
    const connection = once(gateway, 'connection') as Promise<[net.Socket]>;
    const peer = ended(started(t, 'python3', ['-c', PEER, front], ['ignore', 'pipe', 'pipe']));
    const [client] = await connection;
    const transfer = relay(client, net.connect({ path: back, allowHalfOpen: true }));
    const { stdout, stderr } = await peer;
    t.is(stderr, '');
    t.is(stdout.toString().trim(), 'answer');
    t.is(arrived, ['A', 'B', 'C', 'D'].map((letter) => letter.repeat(10)).join(''));
    t.like(await transfer, { tx: 40, rx: 6 });
  },
);
