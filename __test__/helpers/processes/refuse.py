"""Runs a program in which selected system calls, or commands of fcntl, fail with a given error:

    python3 refuse.py splice=EACCES [F_SETPIPE_SZ=EPERM ...] -- program [argument ...]

It installs a seccomp filter, as containers do. strace cannot select calls of fcntl by their command.
"""

import ctypes
import errno
import os
import platform
import struct
import sys

MACHINE = platform.machine()
GENERIC = {"fcntl": 25, "sendfile": 71, "splice": 76, "sendto": 206, "recvfrom": 207, "copy_file_range": 285}
X86_64 = {"sendfile": 40, "sendto": 44, "recvfrom": 45, "fcntl": 72, "splice": 275, "copy_file_range": 326}
CALLS = X86_64 if MACHINE == "x86_64" else GENERIC
COMMANDS = {"F_DUPFD_CLOEXEC": 1030, "F_SETPIPE_SZ": 1031}

LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
# Offsets in struct seccomp_data: the number of the call, and the lower half of its second argument.
NUMBER, SECOND = 0, 24


def instruction(code, k, if_true=0, if_false=0):
    return struct.pack("HBBI", code, if_true, if_false, k)


at = sys.argv.index("--")
refused = [pair.split("=") for pair in sys.argv[1:at]]
program = [instruction(LOAD, NUMBER)]


def refuse_if_equal(value, error):
    program.append(instruction(JUMP_IF_EQUAL, value, 0, 1))
    program.append(instruction(RETURN, ERRNO | getattr(errno, error)))


for name, error in refused:
    if name in CALLS:
        refuse_if_equal(CALLS[name], error)
program += [instruction(JUMP_IF_EQUAL, CALLS["fcntl"], 1), instruction(RETURN, ALLOW)]
program.append(instruction(LOAD, SECOND))
for name, error in refused:
    if name in COMMANDS:
        refuse_if_equal(COMMANDS[name], error)
program.append(instruction(RETURN, ALLOW))

code = ctypes.create_string_buffer(b"".join(program))
filter_program = ctypes.create_string_buffer(struct.pack("HL", len(program), ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
# PR_SET_NO_NEW_PRIVS, then PR_SET_SECCOMP in filter mode.
for call in ((38, 1, 0, 0, 0), (22, 2, ctypes.c_void_p(ctypes.addressof(filter_program)), 0, 0)):
    if libc.prctl(*call) != 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
os.execvp(sys.argv[at + 1], sys.argv[at + 1 :])
