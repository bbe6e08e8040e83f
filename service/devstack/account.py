"""Who runs Postgres when we are root: it refuses to run as root, so an unprivileged account of this machine does.

No account is created. The account needs to own its directory, and to be able to pass through the directories above
it: those that only their owner may enter are opened for passing through (not for listing), and we say so.
"""

import os
import pwd
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from service.devstack.errors import MissingSoftware
from service.devstack.processes import Account

_CANDIDATES = ("postgres", "nobody")


def unprivileged_account(directory: Path) -> Account | None:
    """None where we are not root; otherwise the present owner of `directory`, or an account that nobody logs into."""
    if os.geteuid() != 0:
        return None
    entry = _owner(directory) or _first_known()
    return Account(user=entry.pw_uid, group=entry.pw_gid)


def hand_over(path: Path, account: Account | None) -> None:
    """Make `account` the owner of one file or directory, and of nothing below it."""
    if account is not None:
        os.chown(path, account.user, account.group)


def let_through(path: Path, account: Account | None, say: Callable[[str], None]) -> None:
    """Let `account` pass through every directory above `path`."""
    if account is None:
        return
    for directory in path.resolve().parents:
        mode = stat.S_IMODE(directory.stat().st_mode)
        if not mode & stat.S_IXOTH:
            say(f"letting other users pass through {directory}, since Postgres cannot run as root (chmod o+x)")
            directory.chmod(mode | stat.S_IXOTH)


def _owner(directory: Path) -> pwd.struct_passwd | None:
    try:
        owner = directory.stat().st_uid
        return pwd.getpwuid(owner) if owner != 0 else None
    except (FileNotFoundError, KeyError):
        return None


def _first_known() -> pwd.struct_passwd:
    for entry in _known():
        return entry
    raise MissingSoftware("Postgres cannot run as root, and there is no other account: useradd --system postgres")


def _known() -> Iterator[pwd.struct_passwd]:
    for name in _CANDIDATES:
        try:
            yield pwd.getpwnam(name)
        except KeyError:
            continue
