"""What the kernel counts: CPU seconds of a process and of the machine, peak memory."""

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def process_cpu_s(pid: int) -> float:
    """User and system time of all threads of a process."""
    figures = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(figures[11]) + int(figures[12])) / _TICKS


def machine_cpu_s() -> float:
    """Time that all cores together were busy: servers, the kernel's threads and the benchmark itself included."""
    user, nice, system, _, _, irq, softirq, *_ = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:])
    return (user + nice + system + irq + softirq) / _TICKS


def peak_mb(pid: int) -> int:
    """The most memory that a process has had resident."""
    (line,) = [one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmHWM")]
    return int(line.split()[1]) // 1024


def family_cpu_s(pid: int) -> float:
    """`process_cpu_s` with that of its children, those that have ended and those that run, and theirs."""
    figures = dict[int, list[str]]()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                figures[int(entry.name)] = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue  # ended meanwhile: its parent has it
    if pid not in figures:
        raise ProcessLookupError(f"process {pid} has ended")
    family, total = [pid], 0
    for member in family:
        family += [child for child, of in figures.items() if int(of[1]) == member]
        total += sum(map(int, figures[member][11:15]))
    return total / _TICKS
