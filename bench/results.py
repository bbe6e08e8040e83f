"""Where measurements are kept: raw rows, a table for people, a picture. Each file begins anew with each run."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.about import interpreter, machine
from service.adapters.clock import SystemClock
from service.devstack import DevStack

DIRECTORY = Path(__file__).with_name("results")


def machine_of(stack: DevStack) -> dict[str, Any]:
    """What a figure depends on besides the program."""
    return {
        "at": SystemClock().now().strftime("%Y-%m-%dT%H:%MZ"),
        **machine(),
        "python": interpreter(),
        "kafka": f"{stack.broker}, one node, acks=all, its defaults of flushing",
        "postgres": f"{stack.postgres.name}, fsync and synchronous_commit on",
        "isolation": "read committed",
    }


class Rows:
    """Raw rows of one run, one JSON object a line, written as they come."""

    def __init__(self, directory: Path, name: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / f"{name}.jsonl"
        self._path.write_text("")
        self.rows: list[dict[str, Any]] = []

    def add(self, row: Mapping[str, Any]) -> None:
        self.rows.append(dict(row))
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def markdown(title: str, notes: Iterable[str], columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A page with one table; figures stand to the right."""
    lines = [f"# {title}", "", *(f"- {note}" for note in notes), "", f"| {' | '.join(columns)} |"]
    lines.append("|" + "|".join([" --- ", *[" ---: "] * (len(columns) - 1)]) + "|")
    lines += [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join(lines) + "\n"


def described(machine: Mapping[str, Any]) -> list[str]:
    return [f"{name}: {value}" for name, value in machine.items()]
