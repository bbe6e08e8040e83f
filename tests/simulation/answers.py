"""The answers of one commit against what they must be."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.simulation.facts import (
    ABSENT,
    CLASSES,
    HOUR_US,
    MATCHED,
    NEVER,
    OPEN,
    PARKED,
    PARKED_WITHDRAWN,
    REFUSED,
    UNMATCHED,
    UNMATCHED_WITHDRAWN,
    WITHDRAWN,
    Letter,
    Place,
    Published,
    Row,
    Task,
    Traffic,
    Violation,
    facts_of,
)
from tests.simulation.formats import canonical, event_time, invalid, micros, parsed, row_in, slots_of, word_of
from tests.simulation.workload import BREAKING, Rules, Sent

if TYPE_CHECKING:
    from tests.simulation.oracle import Oracle

Key = tuple[str, str]
"""Deployment and row ID."""


class Case(NamedTuple):
    """One record with its answer, and the row as it was before."""

    key: Key
    row: Row | None
    place: Place
    sent: Sent
    event: Mapping[str, Any]
    rules: Rules
    at: int
    said: tuple[str, str | None]
    fields: Mapping[str, Any]
    state: bytes

    @property
    def phase(self) -> int:
        return self.row.phase if self.row else ABSENT

    def agrees(self, *right: tuple[str, str | None]) -> None:
        if self.said not in right:
            raise Violation(f"{self.key}: answered {self.said}, right would be {right}")


class Answers:
    """The answers of one commit, checked one after the other."""

    def __init__(
        self,
        oracle: "Oracle",
        task: Task,
        version: int,
        consumed: Mapping[Place, Sent],
        before: Mapping[str, int],
        after: Mapping[str, int],
    ) -> None:
        self.oracle = oracle
        self.task = task
        self.version = version
        self.waiting = dict(consumed)
        self.before = before
        self.after = after
        self.letters: Counter[Letter] = Counter()
        for place in consumed:
            if place in oracle.answered:
                raise Violation(f"{place} was answered by commit {oracle.answered[place]} already")
            oracle.answered[place] = version

    # ---------------------------------------------------------------- one status

    def take(self, status: Published) -> None:
        deployment, _, row_id = status.key.decode().partition("/")
        key = (deployment, row_id)
        row = self.task.rows.get(key)
        if status.headers.get("hindsight-version") != b"%d" % self.version:
            raise Violation(f"{key}: says another version than {self.version}")
        if status.value is None:
            self._ended(key, row)
            return
        fields = json.loads(status.value)
        if fields["seq"] != self.task.seq:
            raise Violation(f"{key}: seq {fields['seq']}, not {self.task.seq}")
        self.task.seq += 1
        source = fields.get("source")
        if source is None:
            self._passed(key, row, fields)
            kept = self.task.rows[key]
        else:
            place = (source["topic"].split(".")[1], source["partition"], source["offset"])
            sent = self.waiting.pop(place, None)
            if sent is None:
                raise Violation(f"{key}: {place} was not to be answered in this commit")
            kept = self._answered(key, place, sent, fields, status.headers["hindsight-state"])
        self._check_shown(key, kept, fields, status.headers["hindsight-state"])

    def _passed(self, key: Key, row: Row | None, fields: Mapping[str, Any]) -> None:
        """A status that only time brought about."""
        watermark = self.after.get(key[0], NEVER)
        word = fields["status"]
        if row is None:
            raise Violation(f"{key}: {word} of no row")
        if word == "UNMATCHED" and row.phase in (OPEN, WITHDRAWN):
            if row.due > watermark:
                raise Violation(f"{key}: UNMATCHED {row.due - watermark} µs before its instant")
            row.phase = UNMATCHED if row.phase == OPEN else UNMATCHED_WITHDRAWN
            row.revision += 1
            self._count(key, row, word, row.predicted_at)
        elif word == "ORPHAN" and row.phase in (PARKED, PARKED_WITHDRAWN):
            if row.drop > watermark:
                raise Violation(f"{key}: ORPHAN before its instant")
            row.orphaned = True
            self._count(key, row, word, row.actual_at)
        else:
            raise Violation(f"{key}: {word} in phase {row.phase}")

    def _ended(self, key: Key, row: Row | None) -> None:
        if row is None or row.drop > self.after.get(key[0], NEVER):
            raise Violation(f"{key}: forgotten before its instant, or twice")
        if row.phase not in (MATCHED, UNMATCHED, UNMATCHED_WITHDRAWN) and not row.orphaned:
            raise Violation(f"{key}: forgotten in phase {row.phase}")
        word = "EXPIRED" if row.phase in (UNMATCHED, UNMATCHED_WITHDRAWN) else "FORGOTTEN"
        self._count(key, row, word, row.actual_at)
        del self.task.rows[key]

    # ---------------------------------------------------------------- one record

    def _answered(self, key: Key, place: Place, sent: Sent, fields: Mapping[str, Any], state: bytes) -> Row:
        """The row after the record."""
        row, event, rules = self.task.rows.get(key), parsed(sent.value), self.oracle.rules[key[0]]
        said = (fields["status"], fields.get("reason"))
        self._check_time(key, row)
        self.task.received[key[0], sent.topic] += 1
        if submission := dict(sent.headers).get("hindsight-submission-id"):
            word = f"INVALID:{said[1]}" if said[0] == "INVALID" else said[0]
            self.task.submissions[submission.decode(), word] += 1
        reason = invalid(event, rules, sent)
        at = event_time(event, sent) if reason != "bad_timestamp" else 0
        case = Case(key, row, place, sent, event, rules, at, said, fields, state)
        if reason is not None:
            return self._refused(case, "INVALID", reason)
        return self._predicted(case) if sent.topic == "predictions" else self._acted(case)

    def _check_time(self, key: Key, row: Row | None) -> None:
        """What time had to do to the row before this commit is done."""
        if row is None:
            return
        waits = row.phase in (OPEN, WITHDRAWN)
        if (row.due if waits else row.drop) <= self.before.get(key[0], NEVER):
            raise Violation(f"{key}: a record was judged in phase {row.phase}, whose time is over")

    def _refused(self, case: Case, word: str, reason: str) -> Row:
        case.agrees((word, reason))
        self.letters[Letter(case.place, reason)] += 1
        row = case.row or Row()
        self._count(case.key, row, word, case.sent.timestamp_ms * 1000)
        return row

    def _predicted(self, case: Case) -> Row:
        key, row, at, phase = case.key, case.row, case.at, case.phase
        if row is not None and row.is_predicted:
            word = "DUPLICATE" if row.content == case.sent.value else "CONFLICT"
            case.agrees((word, None))
            self._count(key, row, word, at)
            return row
        batch, refusal = self._batch_of(case)
        if refusal is not None:
            return self._refused(case, REFUSED.get(refusal, "INVALID"), refusal)
        word = "MATCHED" if phase == PARKED else "ACCEPTED"
        case.agrees((word, "no_association_id" if _is_nameless(key) else None))
        opened = row or Row()
        opened.phase = {PARKED: MATCHED, PARKED_WITHDRAWN: WITHDRAWN}.get(phase, OPEN)
        opened.revision += 1
        opened.predicted_at, opened.content, opened.prediction = at, case.sent.value, case.event["prediction"]
        opened.model, opened.batch = case.event.get("modelId", "model-1"), batch
        if not key[1].startswith("record:"):
            self._keep_opened(case, opened)
        self._count_prediction(case, opened, word)
        if opened.phase == MATCHED:
            self._pair(key, opened, +1)
        return opened

    def _keep_opened(self, case: Case, row: Row) -> None:
        window, low, high = micros(case.rules.window), *self._instants(case.key, case.at)
        row.due = self._within(case, "due", low + window, high + window)
        row.drop = row.due + micros(case.rules.grace)
        self.task.rows[case.key] = row

    def _count_prediction(self, case: Case, row: Row, word: str) -> None:
        at, cell = case.at, self._count(case.key, row, word, case.at)
        cell.predictions += 1
        cell.first_at = at if cell.first_at is None else min(cell.first_at, at)
        cell.last_at = at if cell.last_at is None else max(cell.last_at, at)
        if row.due:
            cell.last_due = row.due if cell.last_due is None else max(cell.last_due, row.due)
        if ("hindsight-skip-drift-tracking", b"true") not in case.sent.headers and row.model == "model-1":
            cell.features.update(slots_of(case.event.get("features") or {}))

    def _batch_of(self, case: Case) -> tuple[str, str | None]:
        """Batch ID of a prediction that opens a row, and why it may not."""
        rules, event = case.rules, case.event
        found, refusal, known = None, None, self.oracle.batches[rules.id]
        named = event.get("batchName")
        if named is None and "batchId" not in event and rules.batch_enabled and rules.policy == "hourly":
            named = datetime.fromtimestamp(case.at // HOUR_US * 3600, UTC).strftime("%Y-%m-%dT%H:00Z")
        if ("batchId" in event or named) and not rules.batch_enabled:
            refusal = "bad_batch"
        elif "batchId" in event:
            found = next((one for one in known if one.id == event["batchId"]), None)
            refusal = None if found else "unknown_batch"
        elif named:
            found = next((one for one in known if one.name == named and not one.is_deleted), None)
            if found is None:
                raise Violation(f"{case.key}: no batch {named!r} was opened")
        if found is not None and found.is_deleted:
            refusal = "batch_deleted"
        elif found is not None and found.is_locked:
            refusal = "batch_locked"
        if rules.association_required and _is_nameless(case.key):
            refusal = "missing_association_id"
        return found.id if found else "", refusal

    def _acted(self, case: Case) -> Row:
        key, row, at, rules, said = case.key, case.row, case.at, case.rules, case.said
        value = canonical(case.event["actual"], rules)
        if row is None and case.event.get("keepWithoutPrediction") is False:
            case.agrees(("ORPHAN", "not_kept"))
            self._count(key, Row(), "ORPHAN", at)
            return Row()
        if row is not None and row.actual and value == row.actual:
            case.agrees(("DUPLICATE", None))
            if at > row.actual_at or rules.by_arrival:
                row.actual_at = at
                self._park(case, row)
            self._count(key, row, "DUPLICATE", at)
            return row
        if row is not None and row.actual and not rules.by_arrival and (at, value) <= (row.actual_at, row.actual):
            case.agrees(("DUPLICATE", "older_actual"))
            self._count(key, row, "DUPLICATE", at)
            return row
        late = self._late(case)
        untaken = {"record": ("LATE_RECORDED", None), "reject": ("LATE_REJECTED", "late")}.get(rules.late)
        if row is not None and True in late and untaken is not None and said == untaken:
            if said[0] == "LATE_REJECTED":
                self.letters[Letter(case.place, "late")] += 1
            self._count(key, row, said[0], at)
            return row
        return self._held(case, value, late - ({True} if untaken else set()))

    def _late(self, case: Case) -> set[bool]:
        """Whether the actual may be late: both, where the watermark of its commit is not known so well."""
        row, name = case.row, case.key[0]
        if row is None or not row.is_predicted or row.phase in (OPEN, WITHDRAWN):
            return {False}
        if row.phase in (UNMATCHED, UNMATCHED_WITHDRAWN) or row.due <= self.before.get(name, NEVER):
            return {True}
        return {False, True} if row.due <= self.after.get(name, NEVER) else {False}

    def _held(self, case: Case, value: bytes, late: set[bool]) -> Row:
        """The row takes the actual."""
        key, phase, withdrawn = case.key, case.phase, value == b"null"
        held = case.row or Row()
        matters = phase == MATCHED or (not withdrawn and phase >= OPEN)
        reason = "deleted" if matters and not self._is_counted(key, held) else None
        case.agrees(*((word_of(phase, withdrawn, is_late), reason) for is_late in late))
        previous = None if held.actual in (b"", b"null") else json.loads(held.actual)
        if case.fields.get("previousActual") != previous:
            raise Violation(f"{key}: previousActual {case.fields.get('previousActual')!r}, not {previous!r}")
        if phase == MATCHED:
            self._pair(key, held, -1)
        held.revision += 1
        held.actual_at, held.actual, held.label_day = case.at, value, case.sent.timestamp_ms // 86_400_000
        if phase < OPEN:
            held.phase = PARKED_WITHDRAWN if withdrawn else PARKED
        elif withdrawn:
            held.phase = UNMATCHED_WITHDRAWN if phase in (UNMATCHED, UNMATCHED_WITHDRAWN) else WITHDRAWN
        else:
            held.phase = MATCHED
            self._pair(key, held, +1)
        self._park(case, held)
        self.task.rows[key] = held
        self._count(key, held, case.said[0], case.at)
        return held

    def _park(self, case: Case, row: Row) -> None:
        """A row without a prediction waits longer for each actual that it takes."""
        if row.phase in (PARKED, PARKED_WITHDRAWN):
            ttl, low, high = micros(case.rules.early_ttl), *self._instants(case.key, case.at)
            row.drop = self._within(case, "drop", max(row.drop, low + ttl), max(row.drop, high + ttl))

    def _instants(self, key: Key, at: int) -> tuple[int, int]:
        """From when on the row waits: its event time or the watermark of its commit, which lies between two."""
        return max(at, self.before.get(key[0], NEVER)), max(at, self.after.get(key[0], NEVER))

    def _within(self, case: Case, name: str, low: int, high: int) -> int:
        """The instant that the row in the header shows."""
        if not case.state:
            raise Violation(f"{case.key}: no row is kept")
        shown: int = row_in(case.state)[name]
        if not low <= shown <= high:
            raise Violation(f"{case.key}: {name} is {shown}, which is not within {low} and {high}")
        return shown

    # ---------------------------------------------------------------- numbers

    def _count(self, key: Key, row: Row, word: str, at: int) -> Traffic:
        """One outcome, in the cell of its row; where there is none, or its batch is deleted, in that of no model."""
        name = key[0]
        place = (name, "", "", at // HOUR_US * HOUR_US)
        if row.is_predicted and self._is_counted(key, row):
            place = (name, row.model, row.batch, row.predicted_at // HOUR_US * HOUR_US)
        cell = self.task.traffic[place]
        cell.outcomes[word] += 1
        return cell

    def _is_counted(self, key: Key, row: Row) -> bool:
        return not self.oracle.is_deleted(key[0], row.batch)

    def _pair(self, key: Key, row: Row, sign: int) -> None:
        if not self._is_counted(key, row):
            return
        hour = row.predicted_at // HOUR_US * HOUR_US
        cell = self.task.accuracy[key[0], row.model, row.batch, hour, row.label_day]
        cell.matched += sign
        truth = json.loads(row.actual)
        if isinstance(truth, float | int):
            error = float(row.prediction) - truth
            cell.error += sign * error
            cell.squared_error += sign * error * error
            return
        if isinstance(row.prediction, str):
            predicted = row.prediction
        else:
            predicted = "late" if row.prediction["late"] >= 0.5 else "on_time"
            cell.log_loss_rows += sign
            cell.log_loss += sign * -math.log(row.prediction[truth])
        cell.confusion[CLASSES.index(truth) * 1024 + CLASSES.index(predicted)] += sign

    # ---------------------------------------------------------------- the end of a commit

    def end(self, letters: Sequence[Letter]) -> None:
        for place, sent in self.waiting.items():
            event = parsed(sent.value)
            if event.get("deploymentId") not in self.oracle.rules:
                reason = "unknown_deployment" if "deploymentId" in event else "malformed"
            elif event.get("associationId") == BREAKING:
                reason = "unprocessable"
            else:
                raise Violation(f"{place} got no answer")
            self.letters[Letter(place, reason)] += 1
            if submission := dict(sent.headers).get("hindsight-submission-id"):
                self.task.submissions[submission.decode(), reason.upper()] += 1
        if self.letters != Counter(letters):
            raise Violation(f"dead letters {Counter(letters)}, not {self.letters}")
        self.task.watermarks = dict(self.after)

    # ---------------------------------------------------------------- what is shown

    def _check_shown(self, key: Key, row: Row, fields: Mapping[str, Any], state: bytes) -> None:
        """The status, and the row in its header, show the row as it stands."""
        shown = {
            "revision": fields.get("revision", 0),
            "model": fields.get("modelId", ""),
            "batch": fields.get("batchId", ""),
            "prediction": fields.get("prediction"),
            "actual": fields.get("actual"),
        }
        must = {
            "revision": row.revision,
            "model": row.model,
            "batch": row.batch,
            "prediction": row.prediction,
            "actual": json.loads(row.actual) if row.actual else None,
        }
        if shown != must:
            raise Violation(f"{key}: shows {shown}, not {must}")
        kept = self.task.rows.get(key)
        if bool(state) != (kept is not None):
            raise Violation(f"{key}: carries {'a' if state else 'no'} row, the store must hold {kept}")
        if kept is not None and (found := row_in(state)) != (wanted := facts_of(kept)):
            raise Violation(f"{key}: carries {found}, not {wanted}")


def _is_nameless(key: Key) -> bool:
    return key[1].startswith(("record:", "submission:"))
