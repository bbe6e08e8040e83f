"""The second half of `make mutate`: the score of the last run, and which mutants no test saw.

Ends with 1 when one survived that `argued.yaml` does not name. An entry of it that no survivor fits is shown, too.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml
from mutmut.mutation.diff_apply import get_diff_for_mutant

MUTANTS = Path("mutants/service/domain")
ARGUED = Path(__file__).parent / "argued.yaml"
SURVIVED, NOT_REACHED = 0, 33
"""Exit codes of a mutant's tests: all passed; none came by."""


class Survivor(NamedTuple):
    file: str
    function: str
    was: str
    line: str
    """The changed line, as `argued.yaml` names it."""


def main() -> int:
    codes = dict(_exit_codes())
    if not codes or None in codes.values():
        _say("No finished run in mutants/: make mutate\n")
        return 1
    argued = _argued()
    survivors = [_survivor(file, name) for (file, name), code in codes.items() if code in (SURVIVED, NOT_REACHED)]
    unseen = [one for one in survivors if (one.function, one.line) not in argued]
    _print_table(Counter(file for file, _ in codes), Counter(one.file for one in survivors), unseen)
    for one in unseen:
        _say(f"\nsurvived in {one.file}, {one.function}\n  - {one.was}\n  + {one.line}\n")
    for function, line in sorted(argued - {(one.function, one.line) for one in survivors}):
        _say(f"\nargued, but it did not survive: {function}\n  + {line}\n")
    return 1 if unseen else 0


def _exit_codes() -> Iterator[tuple[tuple[str, str], int | None]]:
    """Of each mutant, by (file, name)."""
    for path in sorted(MUTANTS.rglob("*.meta")):
        file = str(path.relative_to(MUTANTS)).removesuffix(".meta")
        for name, code in json.loads(path.read_text())["exit_code_by_key"].items():
            yield (file, name), code


def _survivor(file: str, name: str) -> Survivor:
    lines = get_diff_for_mutant(name).splitlines()
    was, line = (
        " ".join(line[1:].strip() for line in lines if line.startswith(sign) and not line.startswith(sign * 3))
        for sign in "-+"
    )
    mangled = name.rpartition("__mutmut_")[0].rpartition(".")[2]
    return Survivor(file, mangled.removeprefix("x_").removeprefix("xǁ").replace("ǁ", "."), was, line)


def _argued() -> set[tuple[str, str]]:
    kinds = yaml.safe_load(ARGUED.read_text())
    return {(name, line) for kind in kinds for name, lines in kind["mutants"].items() for line in lines}


def _print_table(mutants: Counter[str], survived: Counter[str], unseen: list[Survivor]) -> None:
    left = Counter(one.file for one in unseen)
    _say(f"\n\n{'file':24}{'mutants':>8}{'killed':>8}{'argued':>8}{'survived':>9}\n")
    for file, count in mutants.items():
        _say(f"{file:24}{count:8}{count - survived[file]:8}{survived[file] - left[file]:8}{left[file]:9}\n")
    total, alive, rest = mutants.total(), survived.total(), left.total()
    _say(f"{'all':24}{total:8}{total - alive:8}{alive - rest:8}{rest:9}\n")
    killable = total - alive + rest
    _say(f"score {(total - alive) / total:.1%}; without those argued {(total - alive) / killable:.1%}\n")


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
