"""Serves a FUSE file system whose requests can be left without an answer, so that system calls on it hang:

    python3 fuse-server.py mountpoint

The file `SIZE-anything` has SIZE bytes; each byte is the lowest byte of its position divided by 251. The server mounts
the file system in a mount namespace of its own, so nothing stays mounted when it ends, and every call that hangs then
fails. It is reached through /proc/PID/root. The server speaks the protocol of /dev/fuse itself (fuse(4),
include/uapi/linux/fuse.h), because the machine need not have libfuse.

Commands on stdin, one a line: `hang OPERATION [FROM]` leaves requests of this kind without an answer (reads and writes
only from the position FROM), `again OPERATION [FROM]` answers them with EAGAIN, `release` answers all of them and later
ones. After each request that is left, and after each command, the server prints as JSON how many requests wait for an
answer, and how many were answered with EAGAIN.
"""

import ctypes
import errno
import json
import os
import select
import struct
import sys

LOOKUP, FORGET, GETATTR, SETATTR, OPEN, READ, WRITE, STATFS, RELEASE = 1, 2, 3, 4, 14, 15, 16, 17, 18
FSYNC, FLUSH, INIT, CREATE, INTERRUPT, DESTROY, BATCH_FORGET = 20, 25, 26, 35, 36, 38, 42
NAMES = {
    "lookup": LOOKUP, "getattr": GETATTR, "open": OPEN, "read": READ, "write": WRITE, "fsync": FSYNC, "flush": FLUSH,
    "release": RELEASE, "create": CREATE,
}
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 0x40000
DIRECTORY, REGULAR = 0o40755, 0o100644
ROOT = 1
# Reads and lookups that hang do not keep others from being sent, and writes may have more than a page.
ASYNC_READ, BIG_WRITES, PARALLEL_DIROPS = 1, 1 << 5, 1 << 18
FLAGS = ASYNC_READ | BIG_WRITES | PARALLEL_DIROPS

libc = ctypes.CDLL(None, use_errno=True)


def checked(call, result):
    if result != 0:
        sys.exit(f"{call}: {os.strerror(ctypes.get_errno())}")


checked("unshare", libc.unshare(CLONE_NEWNS))
checked("mount", libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None))
try:
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
except OSError as failure:
    sys.exit(f"/dev/fuse: {failure.strerror}")
options = f"fd={device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}".encode()
checked("mount", libc.mount(b"fuse", sys.argv[1].encode(), b"fuse", 0, options))

hanging = {}
again = {}
refused = 0
held = []
nodes = {}
sizes = {ROOT: 0}


def report():
    print(json.dumps({"held": len(held), "refused": refused}), flush=True)


def node_of(name):
    if name not in nodes:
        nodes[name] = ROOT + 1 + len(nodes)
        sizes[nodes[name]] = int(name.split("-")[0])
    return nodes[name]


def attributes(node):
    mode = DIRECTORY if node == ROOT else REGULAR
    size = sizes[node]
    # As on some file systems, the numbers of inodes have more bits than a number of JavaScript.
    return struct.pack("<6Q10I", node | 1 << 60, size, (size + 511) // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def entry(node):
    # Names and attributes are never cached.
    return struct.pack("<4Q2I", node, 0, 0, 0, 0, 0) + attributes(node)


def content(first, last):
    return bytes(position // 251 % 256 for position in range(first, last))


def answer(opcode, node, body):
    """The error number and the payload of the answer."""
    if opcode == INIT:
        major, minor = struct.unpack_from("<2I", body)
        return 0, struct.pack("<4I2H2I2H8I", major, min(minor, 31), 0, FLAGS, 12, 10, 131072, 1, 32, 0, *[0] * 8)
    if opcode == LOOKUP:
        name = body.rstrip(b"\0").decode()
        return (0, entry(node_of(name))) if name.split("-")[0].isdigit() else (errno.ENOENT, b"")
    if opcode in (GETATTR, SETATTR):
        if opcode == SETATTR and struct.unpack_from("<I", body)[0] & 8:
            sizes[node] = struct.unpack_from("<Q", body, 16)[0]
        return 0, struct.pack("<Q2I", 0, 0, 0) + attributes(node)
    if opcode == OPEN:
        return 0, struct.pack("<Q2I", node, 0, 0)
    if opcode == READ:
        offset, size = struct.unpack_from("<QI", body, 8)
        return 0, content(offset, min(offset + size, sizes[node]))
    if opcode == WRITE:
        offset, size = struct.unpack_from("<QI", body, 8)
        sizes[node] = max(sizes[node], offset + size)
        return 0, struct.pack("<2I", size, 0)
    if opcode == STATFS:
        return 0, struct.pack("<5Q10I", 0, 0, 0, 0, 0, 4096, 255, 4096, *[0] * 7)
    if opcode in (RELEASE, FSYNC, FLUSH):
        return 0, b""
    return errno.ENOSYS, b""


def reply(unique, opcode, node, body):
    global refused
    if is_selected(again, opcode, body):
        refused += 1
        error, payload = errno.EAGAIN, b""
    else:
        error, payload = answer(opcode, node, body)
    try:
        os.write(device, struct.pack("<IiQ", 16 + len(payload), -error, unique) + payload)
    except FileNotFoundError:
        pass  # The caller was interrupted.


def is_selected(operations, opcode, body):
    if opcode not in operations:
        return False
    return opcode not in (READ, WRITE) or sum(struct.unpack_from("<QI", body, 8)) > operations[opcode]


def serve():
    request = os.read(device, 1 << 20)
    _, opcode, unique, node = struct.unpack_from("<IIQQ", request)
    body = request[40:]
    if opcode in (FORGET, BATCH_FORGET, INTERRUPT):
        return
    if is_selected(hanging, opcode, body):
        held.append((unique, opcode, node, body))
        report()
    else:
        reply(unique, opcode, node, body)


def obey(command):
    name, *rest = command.split()
    if name in ("hang", "again"):
        operations = hanging if name == "hang" else again
        operations[NAMES[rest[0]]] = int(rest[1]) if len(rest) > 1 else 0
    elif name == "release":
        hanging.clear()
        again.clear()
        for request in held:
            reply(*request)
        held.clear()
    report()


serve()
print(json.dumps({"mounted": f"/proc/{os.getpid()}/root{sys.argv[1]}"}), flush=True)
pending = b""
while True:
    ready, _, _ = select.select([device, 0], [], [])
    if 0 in ready:
        data = os.read(0, 4096)
        if data == b"":
            break
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            obey(line.decode())
    if device in ready:
        serve()
