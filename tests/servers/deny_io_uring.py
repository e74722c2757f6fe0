"""deny_io_uring.py ERROR COMMAND...: run the command where io_uring_setup fails, as in many containers."""

import ctypes
import errno
import os
import struct
import sys

IO_URING_SETUP = 425  # the same on every architecture
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, FAIL = 0x7FFF0000, 0x00050000 | getattr(errno, sys.argv[1])

PROGRAM = [  # code, jump if true, jump if false, operand
    (LOAD, 0, 0, 0),  # the number of the system call
    (JUMP_IF_EQUAL, 0, 1, IO_URING_SETUP),
    (RETURN, 0, 0, FAIL),
    (RETURN, 0, 0, ALLOW),
]


def main() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in PROGRAM))
    program = struct.pack("HP", len(PROGRAM), ctypes.addressof(code))
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        sys.exit(f"PR_SET_NO_NEW_PRIVS: {os.strerror(ctypes.get_errno())}")
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program) != 0:
        sys.exit(f"PR_SET_SECCOMP: {os.strerror(ctypes.get_errno())}")
    os.execv(sys.argv[2], sys.argv[2:])


main()
