"""What can go wrong with the development stack, each with a message that says what to do."""

from collections.abc import Sequence
from pathlib import Path


class DevStackError(Exception):
    """The development stack cannot do what was asked; the message is meant for the person at the terminal."""


class MissingSoftware(DevStackError):
    """Something that a server needs is not on this machine; the message names the command that mends it."""


class CommandFailed(DevStackError):
    """A command that prepares a server ended with an error."""

    def __init__(self, what: str, *, code: int, output: str) -> None:
        super().__init__(f"{what} failed with exit code {code}:\n{tail(output)}")


class ServerFailed(DevStackError):
    """A server did not start, or did not answer in time."""

    def __init__(self, name: str, *, why: str, log: Path) -> None:
        super().__init__(f"{name} did not start: {why}. The end of {log}:\n{tail(_text(log))}")


class DirectoryInUse(DevStackError):
    """Another stack runs over the same data directory."""

    def __init__(self, directory: Path, holder: str) -> None:
        super().__init__(f"{directory} is in use by another stack ({holder}); stop it, or choose another directory")


def tail(text: str, lines: int = 30) -> str:
    kept: Sequence[str] = text.strip().splitlines()[-lines:]
    return "\n".join(f"  | {line}" for line in kept) if kept else "  (empty)"


def _text(log: Path) -> str:
    try:
        return log.read_text(errors="replace")
    except FileNotFoundError:
        return ""
