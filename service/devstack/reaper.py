"""The last step before a server's own program: drop privileges, tie its life to its parent's, then become it.

Run as a file by `processes`, never imported: it must start fast and therefore imports nothing of the service.
The order matters. The kernel forgets the parent-death signal when the user changes, so that comes first; a parent
that died in between is noticed by comparing the parent's id. Where the kernel has no such signal (anything but
Linux) the server is started all the same, and outlives a parent that was killed with SIGKILL.

    reaper.py PARENT_PID SIGNAL USER:GROUP|- PROGRAM ARGUMENT...
"""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1
_CANNOT_RUN = 127


def _become(account: str) -> None:
    user, group = (int(part) for part in account.split(":"))
    os.setgroups([group])
    os.setgid(group)
    os.setuid(user)


def _die_with_parent(signal_number: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")


def main(arguments: list[str]) -> int:
    parent, signal_number, account, *command = arguments
    if account != "-":
        _become(account)
    if sys.platform == "linux":
        _die_with_parent(int(signal_number))
    if os.getppid() != int(parent):
        return 0
    try:
        os.execvp(command[0], command)
    except OSError as failed:
        sys.stderr.write(f"{command[0]}: {failed.strerror}\n")
        return _CANNOT_RUN


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
