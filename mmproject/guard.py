"""Run a program that dies with its parent: `python guard.py SIGNAL [UID GID] -- program arguments...`

When the parent ends, however it ends, the kernel sends SIGNAL to the program (Linux: PR_SET_PDEATHSIG, which survives
exec). So a supervisor killed with -9 leaves no orphan. The program replaces this one: same pid, no process between.
Runs in front of each process of the system, so it imports next to nothing.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with_parent(number: int) -> None:
    """Ask for signal `number` at the parent's death; exit if that has just happened."""
    parent = os.getppid()
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        sys.exit("guard: the parent is gone")


def main() -> None:
    options, program = sys.argv[1 : sys.argv.index("--")], sys.argv[sys.argv.index("--") + 1 :]
    if len(options) == 3:
        uid, gid = int(options[1]), int(options[2])
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    # After the change of user, which would clear it.
    die_with_parent(signal.Signals[options[0]])
    os.execv(program[0], program)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
