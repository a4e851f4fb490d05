"""Run a command in an empty network namespace: only loopback, brought up, and nothing else.

    python scripts/offline.py COMMAND ARGUMENT ...

Exit code 125 says that this machine does not allow it (`--probe` alone asks only that).
"""

import ctypes
import fcntl
import os
import socket
import struct
import sys

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1
NOT_ALLOWED = 125


def enter() -> None:
    """Leave the machine's network for an empty one. Errors: `OSError` where the machine does not allow it."""
    user, group = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    flags = CLONE_NEWNET if user == 0 else CLONE_NEWNET | CLONE_NEWUSER
    if libc.unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    if flags & CLONE_NEWUSER:
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            with open(f"/proc/self/{name}", "w") as stream:  # noqa: PTH123 - a kernel file, written in one call
                stream.write(text)
    with socket.socket() as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))


if __name__ == "__main__":
    try:
        enter()
    except OSError as error:
        print(f"no network namespace on this machine: {error}", file=sys.stderr)
        sys.exit(NOT_ALLOWED)
    if sys.argv[1:] != ["--probe"]:
        os.execvp(sys.argv[1], sys.argv[1:])
