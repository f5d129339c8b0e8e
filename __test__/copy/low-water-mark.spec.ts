// A socket with SO_RCVLOWAT counts as readable only from that many bytes on. Bytes below that mark which the kernel has
// reported before are not left behind when the destination is full in between.
import { coreTestWithTool } from '../helpers/tools.js';
import { ended, nodeArguments, started } from '../helpers/copy-child.js';

/** Starts a copy of a socket with 70,000 bytes to a pipe, lets it fill the pipe, and then reads all bytes. */
const PROGRAM = `
import fcntl, os, select, socket, struct, subprocess, sys, termios, time

server = socket.create_server(("127.0.0.1", 0))
peer = socket.create_connection(server.getsockname())
source, _ = server.accept()
source.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 65536)
source.setblocking(False)
reader, writer = os.pipe()
fcntl.fcntl(writer, 1031, 4096)  # F_SETPIPE_SZ
peer.sendall(bytes(70_000))
child = subprocess.Popen(sys.argv[1:], stdin=source, stdout=writer)
os.close(writer)
source.close()
held, last = 0, -1
while held == 0 or held != last:
    time.sleep(0.3)
    held, last = struct.unpack("i", fcntl.ioctl(reader, termios.FIONREAD, bytes(4)))[0], held
arrived = 0
while arrived < 70_000 and select.select([reader], [], [], 20)[0]:
    arrived += len(os.read(reader, 65536))
peer.close()
print(held < 70_000, arrived, child.wait())
`;

coreTestWithTool(
  'python3',
  'bytes below the low-water mark of a socket follow once a pipe has room',
  async (t) => {
    const copying = `import { copy } from 'fdsplice'; await copy(0, 1); process.exit(0);`;
    const args = ['-c', PROGRAM, process.execPath, ...nodeArguments(copying)];
    const { stdout, stderr } = await ended(started(t, 'python3', args, ['ignore', 'pipe', 'pipe']));
    t.is(stderr, '');
    t.is(stdout.toString().trim(), 'True 70000 0');
  },
);
