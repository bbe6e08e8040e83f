"""Whether everything is as it must be: the oracle of the simulation, told what real servers hold in the end.

Each status says which commit it belongs to, so the oracle goes through the commits as they were. Which records a commit
consumed is known by what it answered; that none was left out, and none answered twice, is seen at the end. Where a
watermark stood is bounded: from above by the wall clock of the commit, from below by what time has ended before.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby

from service.domain.ids import murmur2
from service.wire.dead_letter import DeadLetter
from tests.chaos.evidence import Disk, Evidence
from tests.integration.worker import Read
from tests.simulation.at_rest import check_cells, check_rows
from tests.simulation.facts import NEVER, Letter, Place, Published, Violation
from tests.simulation.formats import parsed
from tests.simulation.oracle import Oracle
from tests.simulation.workload import DEPLOYMENTS

_STATUSLESS = ("malformed", "unknown_deployment")


class Verdict:
    """Goes through the evidence; `wrong` has what must not be, none of which is told twice."""

    def __init__(self, evidence: Evidence, latest: Callable[[int], int]) -> None:
        """`latest`: the most that any watermark can be (µs) when the wall clock shows these ms."""
        self.wrong: list[str] = []
        self.oracle = Oracle(DEPLOYMENTS, evidence.partitions)
        self._evidence = evidence
        self._latest = latest
        self._letters: dict[Place, DeadLetter] = {_place_of(one): one for one in evidence.letters}
        for row in evidence.batches:
            self.oracle.opened(row["deployment_id"], row["id"], row["name"])

    def run(self) -> list[str]:
        numbers = range(self._evidence.partitions)
        checks: list[Callable[[], None]] = [
            *(partial(self._run_task, number) for number in numbers),
            self._check_unanswered,
            self._check_letters,
            self._check_rekeyed,
            self._check_ledger,
            self._check_submissions,
            self._check_batches,
            *(partial(self._check_at_rest, number) for number in numbers),
            self._check_cell_count,
        ]
        for check in checks:
            try:
                check()
            except Violation as violation:
                self.wrong.append(str(violation))
        return self.wrong

    # ---------------------------------------------------------------- one task

    def _run_task(self, number: int) -> None:
        """Its statuses, commit by commit; beside them every disk as it must be at its version."""
        evidence, lowest, last = self._evidence, dict[str, int](), _Order(number)
        disks = _Disks([disk for disk in evidence.disks if disk.task == number])
        for version, group in groupby(evidence.statuses[number], key=_version_of):
            statuses = list(group)
            disks.check_before(version)
            consumed = {place: evidence.sent[place] for place in self._sources(statuses, number)}
            last.check(version, consumed)
            highest = self._latest(max(status.timestamp_ms for status in statuses))
            before = dict(lowest)
            passed = self._passed(number, statuses)
            lowest |= {name: max(at, lowest.get(name, NEVER)) for name, at in passed.items()}
            published = [Published(one.key or b"", one.value, one.header) for one in statuses]
            letters = [_as_letter(self._letters[place]) for place in consumed if place in self._letters]
            after = {rules.id: highest for rules in DEPLOYMENTS}
            self.oracle.commit(number, version, consumed, published, letters, before, after)
            disks.apply(statuses)
        disks.check_before(None)
        self.oracle.tasks[number].watermarks = lowest

    def _sources(self, statuses: Sequence[Read], number: int) -> Iterator[Place]:
        for status in statuses:
            source = None if status.value is None else status.json.get("source")
            if source is None:
                continue
            place = (source["topic"].split(".")[1], source["partition"], source["offset"])
            if place not in self._evidence.sent:
                raise Violation(f"task {number}: answers {place}, which nobody has sent")
            row_id = status.json["rowId"]
            if (home := self._home(place)) != number:
                raise Violation(f"{place}: {row_id} is answered by task {number}, its home is {home}")
            yield place

    def _home(self, place: Place) -> int:
        sent = self._evidence.sent[place]
        event, notes = parsed(sent.value), dict(sent.headers)
        row_id = event.get("associationId")
        if row_id is None and "hindsight-row-number" in notes:
            parts = (notes["hindsight-submission-id"], notes["hindsight-row-number"])
            row_id = ":".join(["submission", *(part.decode() for part in parts)])
        return place[1] if row_id is None else murmur2(row_id.encode()) % self._evidence.partitions

    def _passed(self, number: int, statuses: Sequence[Read]) -> dict[str, int]:
        """By deployment: an instant that the watermark has passed, since a row was closed or forgotten for it."""
        rows, passed = self.oracle.tasks[number].rows, dict[str, int]()
        for status in statuses:
            deployment, _, row_id = (status.key or b"").decode().partition("/")
            row = rows.get((deployment, row_id))
            if row is None or (status.value is not None and status.json.get("source") is not None):
                continue
            word = None if status.value is None else status.json["status"]
            at = row.due if word == "UNMATCHED" else row.drop
            passed[deployment] = max(at, passed.get(deployment, NEVER))
        return passed

    # ---------------------------------------------------------------- all tasks together

    def _check_unanswered(self) -> None:
        """What got no status got a dead letter, and only what names no deployment got none."""
        lost = [place for place in self._evidence.sent if place not in self.oracle.answered]
        unanswered = [place for place in lost if place not in self._letters]
        if unanswered:
            raise Violation(f"{len(unanswered)} records were never answered: {sorted(unanswered)[:5]}")
        for place in lost:
            name = parsed(self._evidence.sent[place].value).get("deploymentId")
            reason = "unknown_deployment" if name else "malformed"
            if name in self.oracle.rules or self._letters[place].reason != reason:
                raise Violation(f"{place}: only a dead letter, {self._letters[place].reason}")

    def _check_letters(self) -> None:
        """Each once, of a record that was sent, with its bytes. Which have a status, too, the commits have shown."""
        twice = [place for place, n in Counter(map(_place_of, self._evidence.letters)).items() if n > 1]
        if twice:
            raise Violation(f"{len(twice)} dead letters are there twice: {twice[:5]}")
        for place, letter in self._letters.items():
            sent = self._evidence.sent.get(place)
            if sent is None:
                raise Violation(f"a dead letter of {place}, which nobody has sent")
            key = None if letter.key is None else letter.key.decode()
            found = (letter.value, key, letter.timestamp, tuple(letter.headers))
            if found != (sent.value, sent.key, sent.timestamp_ms, sent.headers):
                raise Violation(f"the dead letter of {place} is not the record that was sent")
            if place in self.oracle.answered and letter.reason in _STATUSLESS:
                raise Violation(f"{place} has a status and a dead letter for {letter.reason}")

    def _check_rekeyed(self) -> None:
        origins = Counter(read.header["hindsight-origin"] for read in self._evidence.rekeyed)
        if twice := [origin for origin, n in origins.items() if n > 1]:
            raise Violation(f"{len(twice)} records were forwarded twice: {twice[:5]}")

    def _check_ledger(self) -> None:
        for number, task in enumerate(self.oracle.tasks):
            row = self._evidence.ledger[number]
            if row["seq"] != task.seq:
                raise Violation(f"task {number}: the ledger goes on with seq {row['seq']}, {task.seq} follows")
            if self._evidence.published.get(number, 0) != row["version"]:
                raise Violation(f"task {number}: version {self._evidence.published.get(number)} is out, not the last")
        for clock in self._evidence.clocks:
            task, name = self.oracle.tasks[clock["task"]], clock["deployment_id"]
            found = (clock["predictions_received"], clock["actuals_received"])
            must = (task.received[name, "predictions"], task.received[name, "actuals"])
            if found != must:
                raise Violation(f"task {clock['task']}: {name} has received {found}, not {must}")
            if (clock["watermark"] or NEVER) < task.watermarks.get(name, NEVER):
                raise Violation(f"task {clock['task']}: the watermark of {name} went back")

    def _check_submissions(self) -> None:
        must = {
            (number, *key): records
            for number, task in enumerate(self.oracle.tasks)
            for key, records in task.submissions.items()
        }
        found = dict(self._evidence.submissions)
        if found != must:
            differing = [key for key in found.keys() | must.keys() if found.get(key) != must.get(key)]
            raise Violation(f"submissions differ in {[(key, found.get(key), must.get(key)) for key in differing[:5]]}")

    def _check_batches(self) -> None:
        """One batch of a name, opened once, and said so once."""
        names = Counter((row["deployment_id"], row["name"]) for row in self._evidence.batches)
        if twice := [name for name, n in names.items() if n > 1]:
            raise Violation(f"batches of one name: {twice}")
        events = [one.json for one in self._evidence.batch_events]
        said = Counter((event["deploymentId"], event["batchId"], event["event"]) for event in events)
        must = Counter((row["deployment_id"], row["id"], "CREATED") for row in self._evidence.batches)
        if said != must:
            raise Violation(f"batch events {said - must} too many, {must - said} missing")

    def _check_at_rest(self, number: int) -> None:
        task, cells = self.oracle.tasks[number], self._evidence.cells[number]
        check_cells(number, task, cells.traffic, cells.accuracy)
        newest = max((one for one in self._evidence.disks if one.task == number), key=lambda one: one.version)
        if newest.version != self._evidence.ledger[number]["version"]:
            raise Violation(f"task {number}: no disk has the ledger's version")
        check_rows(number, task, newest.rows)

    def _check_cell_count(self) -> None:
        found = sum(len(cells.traffic) + len(cells.accuracy) for cells in self._evidence.cells)
        if found != self._evidence.cells_there:
            raise Violation(f"{self._evidence.cells_there} cells in the tables, {found} of them in these days")


class _Order:
    """No record of a partition is answered in an earlier commit than one that came before it."""

    def __init__(self, task: int) -> None:
        self._task = task
        self._last: defaultdict[tuple[str, int], int] = defaultdict(lambda: -1)

    def check(self, version: int, consumed: Mapping[Place, object]) -> None:
        reached = dict(self._last)
        for topic, partition, offset in consumed:
            if offset <= self._last[topic, partition]:
                place = (topic, partition, offset)
                raise Violation(f"task {self._task}: version {version} answers {place}, which an earlier one passed")
            reached[topic, partition] = max(offset, reached.get((topic, partition), -1))
        self._last.update(reached)


class _Disks:
    """Stores of one task, each of which must hold what the changelog says up to its version."""

    def __init__(self, disks: Sequence[Disk]) -> None:
        self._left = sorted((disk for disk in disks if disk.version >= 0), key=lambda disk: disk.version)
        self._rows: dict[bytes, bytes] = {}

    def check_before(self, version: int | None) -> None:
        """Those that are older than this version; all for None."""
        while self._left and (version is None or self._left[0].version < version):
            disk = self._left.pop(0)
            if disk.rows != self._rows:
                keys = sorted({key for key, _ in disk.rows.items() ^ self._rows.items()})
                raise Violation(
                    f"task {disk.task}: the disk of {disk.name} (version {disk.version}) differs in {len(keys)} rows "
                    f"from the changelog: {keys[:3]}"
                )

    def apply(self, statuses: Sequence[Read]) -> None:
        for status in statuses:
            if state := status.header["hindsight-state"]:
                self._rows[status.key or b""] = state
            else:
                self._rows.pop(status.key or b"", None)


def _version_of(status: Read) -> int:
    return int(status.header["hindsight-version"])


def _place_of(letter: DeadLetter) -> Place:
    return letter.topic.split(".")[1], letter.source_partition, letter.source_offset


def _as_letter(letter: DeadLetter) -> Letter:
    return Letter(_place_of(letter), letter.reason)
