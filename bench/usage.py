"""What processes use, as the kernel counts it: CPU seconds, of one process or of one and its children, and of all."""

import os
from pathlib import Path
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str]:
    """Of /proc/<pid>/stat what follows the name, which may hold anything: state, parent, and so on."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads so far, to 10 ms."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / _TICKS


def family_cpu_seconds(pid: int) -> float:
    """The same with that of its children, those that have ended and those that run, and theirs."""
    stats = dict[int, list[str]]()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                stats[int(entry.name)] = _stat(int(entry.name))
            except (FileNotFoundError, ProcessLookupError):
                continue  # ended meanwhile: its parent has it
    if pid not in stats:
        raise ProcessLookupError(f"process {pid} has ended")
    family, total = [pid], 0.0
    for member in family:
        family += [child for child, fields in stats.items() if int(fields[1]) == member]
        total += sum(map(int, stats[member][11:15])) / _TICKS
    return total


def memory_mb(pid: int, field: str = "VmRSS") -> int:
    """`VmRSS`, or `VmHWM`: the most so far."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    (line,) = [line for line in lines if line.startswith(field)]
    return int(line.split()[1]) // 1024


class Machine(NamedTuple):
    """Seconds of all cores together since the machine started."""

    busy: float
    all: float

    def busy_share(self, since: "Machine") -> float:
        return (self.busy - since.busy) / max(self.all - since.all, 1 / _TICKS)


def machine() -> Machine:
    """As it stands now; waiting for disks counts as idle, time that the host took as busy."""
    first = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0]
    user, nice, system, idle, waiting, *others = (int(field) / _TICKS for field in first.split()[1:9])
    busy = user + nice + system + sum(others)
    return Machine(busy, busy + idle + waiting)
