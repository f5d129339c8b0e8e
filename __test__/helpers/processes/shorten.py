"""Runs a program whose reads, writes and splices often move fewer bytes than requested, as the kernel is allowed to do:

    python3 shorten.py <seed> <call>[,<call> ...] <report> program [argument ...]

A tracer (ptrace) lowers the requested count as the call enters the kernel, so the returned count is real. Shortening
begins with the first write of the program to its standard output: the loader, which runs before, does not check counts.
At the end the number of shortened calls is written to the file <report>.
"""

import ctypes
import os
import platform
import random
import signal
import struct
import sys

# The number of the call, and the index of its count argument.
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
# Word indices in struct user_regs_struct: its size, the number of the call, its arguments and its result.
WORDS, NUMBER, ARGUMENTS, RESULT = {
    "x86_64": (27, 15, (14, 13, 12, 7, 9, 8), 10),
    "aarch64": (34, 8, (0, 1, 2, 3, 4, 5), 0),
}[platform.machine()]

TRACEME, SYSCALL, SETOPTIONS, GETREGSET, SETREGSET, GET_SYSCALL_INFO = 0, 24, 0x4200, 0x4204, 0x4205, 0x420E
ENTRY = 1
# PTRACE_O_TRACESYSGOOD, the three kinds of children, PTRACE_O_EXITKILL.
OPTIONS = 1 | 2 | 4 | 8 | 1 << 20
WALL = 0x40000000
PRSTATUS = 1
# Smaller requests are wake-ups: an eventfd cannot be read in parts.
LEAST, WAKE_UP = 64, 8

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long

chance = random.Random(int(sys.argv[1]))
shortened = {CALLS[name][0]: CALLS[name][1] for name in sys.argv[2].split(",")}
registers = (ctypes.c_uint64 * WORDS)()
vector = ctypes.create_string_buffer(struct.pack("PN", ctypes.addressof(registers), ctypes.sizeof(registers)))

call_info = ctypes.create_string_buffer(88)


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
# Signals to the tracer are passed on to the program.
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda number, _: os.kill(child, number))

# For each thread inside a shortened call: the changed argument and its original value.
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
    # A new thread stops once when it starts.
    is_start = number == signal.SIGSTOP and thread not in started and thread != child
    if number == signal.SIGTRAP | 0x80:
        libc.ptrace(GET_SYSCALL_INFO, thread, ctypes.sizeof(call_info), ctypes.addressof(call_info))
        if call_info.raw[0] == ENTRY:
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
            # The program relies on all registers but the result being unchanged.
            if ARGUMENTS[at] != RESULT and transfer(GETREGSET, thread):
                registers[ARGUMENTS[at]] = wanted
                transfer(SETREGSET, thread)
    elif status >> 16 == 0 and number != signal.SIGTRAP and not is_start:
        pass_on = number
    started.add(thread)
    libc.ptrace(SYSCALL, thread, None, pass_on or None)
