"""Runs a program whose reads, writes and splices often get a shorter count than they ask for, as the kernel may always do:

    python3 shorten.py <seed> <call>[,<call> ...] <report> program [argument ...]

The count that is asked for is lowered as the call enters the kernel (ptrace), so that what it returns is true. It begins
when the program first writes to its standard output: before that it is loaded, by code that does not look at counts. At
the end the file <report> says how many calls were shortened.
"""

import ctypes
import os
import platform
import random
import signal
import struct
import sys

# Number of the call, and which of its arguments is the count.
CALLS = {
    "x86_64": {
        "read": (0, 2),
        "write": (1, 2),
        "pread64": (17, 2),
        "pwrite64": (18, 2),
        "sendfile": (40, 3),
        "sendto": (44, 2),
        "recvfrom": (45, 2),
        "splice": (275, 4),
        "copy_file_range": (326, 4),
    },
    "aarch64": {
        "read": (63, 2),
        "write": (64, 2),
        "pread64": (67, 2),
        "pwrite64": (68, 2),
        "sendfile": (71, 3),
        "splice": (76, 4),
        "sendto": (206, 2),
        "recvfrom": (207, 2),
        "copy_file_range": (285, 4),
    },
}[platform.machine()]
# struct user_regs_struct in words: its size, where the call's number is, its arguments and its result.
WORDS, NUMBER, ARGUMENTS, RESULT = {
    "x86_64": (27, 15, (14, 13, 12, 7, 9, 8), 10),
    "aarch64": (34, 8, (0, 1, 2, 3, 4, 5), 0),
}[platform.machine()]

TRACEME, SYSCALL, SETOPTIONS, GETREGSET, SETREGSET, GET_SYSCALL_INFO = 0, 24, 0x4200, 0x4204, 0x4205, 0x420E
ENTRY = 1
# SYSGOOD, the three kinds of children, EXITKILL.
OPTIONS = 1 | 2 | 4 | 8 | 1 << 20
WALL = 0x40000000
PRSTATUS = 1
# What asks for less is a wake-up; an eventfd cannot be read in parts.
LEAST, WAKE_UP = 64, 8

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long

chance = random.Random(int(sys.argv[1]))
shortened = {CALLS[name][0]: CALLS[name][1] for name in sys.argv[2].split(",")}
registers = (ctypes.c_uint64 * WORDS)()
vector = ctypes.create_string_buffer(struct.pack("PN", ctypes.addressof(registers), ctypes.sizeof(registers)))


what = ctypes.create_string_buffer(88)


def transfer(request, thread):
    return libc.ptrace(request, thread, PRSTATUS, ctypes.addressof(vector)) == 0


child = os.fork()
if child == 0:
    libc.ptrace(TRACEME, 0, None, None)
    os.kill(os.getpid(), signal.SIGSTOP)
    os.execvp(sys.argv[4], sys.argv[4:])
os.waitpid(child, 0)
libc.ptrace(SETOPTIONS, child, None, OPTIONS)
libc.ptrace(SYSCALL, child, None, None)
# What is asked of the tracer is meant for the program.
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda number, _: os.kill(child, number))

# By thread: the argument that was changed in the call it is in, and what it was.
inside = {}
started = set()
begun = False
count = 0
while True:
    thread, status = os.waitpid(-1, WALL)
    if os.WIFEXITED(status) or os.WIFSIGNALED(status):
        inside.pop(thread, None)
        if thread == child:
            with open(sys.argv[3], "w") as report:
                report.write(str(count))
            sys.exit(os.waitstatus_to_exitcode(status) & 0xFF)
        continue
    number = os.WSTOPSIG(status)
    pass_on = 0
    # A new thread stops by itself, once.
    is_start = number == signal.SIGSTOP and thread not in started and thread != child
    if number == signal.SIGTRAP | 0x80:
        libc.ptrace(GET_SYSCALL_INFO, thread, ctypes.sizeof(what), ctypes.addressof(what))
        if what.raw[0] == ENTRY:
            transfer(GETREGSET, thread)
            at = shortened.get(registers[NUMBER])
            wanted = registers[ARGUMENTS[at]] if at is not None else 0
            begun = begun or (registers[NUMBER] == CALLS["write"][0] and registers[ARGUMENTS[0]] == 1)
            if begun and wanted >= LEAST and chance.random() < 0.7:
                registers[ARGUMENTS[at]] = max(WAKE_UP, int(wanted ** chance.random()))
                if transfer(SETREGSET, thread):
                    inside[thread] = (at, wanted)
                    count += 1
        elif thread in inside:
            at, wanted = inside.pop(thread)
            # The program relies on its registers being what they were, but for the one with the result.
            if ARGUMENTS[at] != RESULT and transfer(GETREGSET, thread):
                registers[ARGUMENTS[at]] = wanted
                transfer(SETREGSET, thread)
    elif status >> 16 == 0 and number != signal.SIGTRAP and not is_start:
        pass_on = number
    started.add(thread)
    libc.ptrace(SYSCALL, thread, None, pass_on or None)
