"""What a call does, on a transport that the test holds."""

import asyncio
import gc
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from service.client import Client, Counts, Limits
from service.client.complaints import Complaints
from service.client.parts import Parts
from service.client.rows import Outcome, Parcel, size_of
from service.client.wording import EventWording


class Gate:
    """Lets nothing through until it is opened."""

    at_once = 1

    def __init__(self) -> None:
        self.open = threading.Event()
        self.parcels: list[Parcel] = []
        self.closed = threading.Event()

    async def send(self, parcel: Parcel) -> Outcome:
        while not self.open.is_set():  # noqa: ASYNC110 another thread opens it
            await asyncio.sleep(0.005)
        self.parcels.append(parcel)
        return Outcome(sent=len(parcel.rows))

    async def close(self) -> None:
        self.closed.set()


@contextmanager
def gated(limits: Limits | None = None) -> Iterator[tuple[Client, Gate]]:
    gate = Gate()
    client = Client(Parts.over(gate, EventWording(), limits or Limits(linger=0), Complaints()))
    try:
        yield client, gate
    finally:
        gate.open.set()
        client.close()


def test_rows_are_bounded() -> None:
    with gated(Limits(buffer_rows=3)) as (client, gate):
        assert [client.log_prediction("d", number) for number in range(5)] == [True] * 3 + [False] * 2
        assert client.counts == Counts(taken=3, buffered=3, dropped_full=2)
        gate.open.set()
        assert client.flush()
        assert client.log_prediction("d", 5)


def test_bytes_are_bounded() -> None:
    with gated(Limits(buffer_bytes=1 << 20)) as (client, gate):
        text = "x" * 100_000
        taken = sum(client.log_prediction("d", 1, features={"text": text}) for _ in range(20))
        assert taken == client.counts.taken == 10
        gate.open.set()
        assert client.flush()
        assert sum(size_of(row) for parcel in gate.parcels for row in parcel.rows) <= 1 << 20
        assert client.log_prediction("d", 1, features={"text": text}), "there is room again"


def test_parcels_are_bounded() -> None:
    with gated(Limits(batch_rows=4, linger=10)) as (client, gate):
        gate.open.set()
        for number in range(10):
            assert client.log_prediction("d", number)
        assert client.flush()
        assert [len(parcel.rows) for parcel in gate.parcels] == [4, 4, 2]
    with gated(Limits(batch_bytes=1_000, linger=10)) as (client, gate):
        gate.open.set()
        for _ in range(6):
            assert client.log_prediction("d", 1, features={"text": "x" * 100})
        assert client.flush()
        assert all(parcel.bytes <= 1_000 for parcel in gate.parcels) and len(gate.parcels) == 3


def test_a_full_parcel_does_not_linger() -> None:
    with gated(Limits(batch_rows=2, linger=60)) as (client, gate):
        gate.open.set()
        for number in range(4):
            assert client.log_prediction("d", number)
        while client.counts.sent < 4:
            gate.closed.wait(0.01)


def test_nothing_raises_whatever_is_given(caplog: pytest.LogCaptureFixture) -> None:
    class Trap:
        def __getattribute__(self, name: str) -> object:
            raise RuntimeError(name)

    with gated() as (client, _), caplog.at_level(logging.WARNING, "service.client"):
        for wrong in (None, Trap(), object(), float("nan"), {"a": Trap()}):
            assert client.log_prediction("d", wrong) is False  # type: ignore[arg-type]
        assert client.log_prediction("no deployment", 1) is False
        assert client.log_actual("d", Trap(), 1) is False  # type: ignore[arg-type]
        assert client.log_prediction("d", 1, features={"secret-name": "secret-value" * 100_000}) is False
        assert client.counts == Counts(refused_bad=8)
    assert len(caplog.records) == 1, "one line every few seconds"
    assert "secret-value" not in caplog.text


def test_what_was_not_said_is_counted_in_the_next_line(caplog: pytest.LogCaptureFixture) -> None:
    complaints = Complaints()
    now = 100.0
    complaints._monotonic = lambda: now
    for _ in range(7):
        complaints.tell("refused", "why")
    complaints.tell("dropped", "no room")
    now += 5
    complaints.tell("refused", "why")
    told = [record.getMessage() for record in caplog.records]
    assert told == ["refused: why", "dropped: no room", "refused: why (6 more rows since the last such line)"]


def test_closing_sends_what_is_there_and_takes_no_more() -> None:
    with gated(Limits(linger=60)) as (client, gate):
        assert client.log_prediction("d", 1)
        gate.open.set()
        client.close()
        assert client.counts == Counts(taken=1, sent=1)
        assert not client.log_prediction("d", 1)
        assert client.counts.refused_closed == 1
        client.close()
        assert client.flush()
        assert gate.closed.is_set()


def test_closing_in_time_whatever_the_transport_does() -> None:
    with gated() as (client, gate):
        assert client.log_prediction("d", 1)
        client.close(0.05)
        assert client.counts == Counts(taken=1, failed=1)
        assert gate.closed.is_set() and not gate.parcels


def test_a_waiting_call_ends_when_the_client_is_closed() -> None:
    with gated(Limits(buffer_rows=1, wait_when_full=600)) as (client, _):
        assert client.log_prediction("d", 1)
        waiting = threading.Thread(target=client.log_prediction, args=("d", 2))
        waiting.start()
        client.close(0.05)
        waiting.join()
        assert client.counts.refused_closed == 1


def test_a_client_that_is_let_go_of_ends_its_thread() -> None:
    before = threading.active_count()
    gate = Gate()
    gate.open.set()
    client = Client(Parts.over(gate, EventWording(), Limits(linger=60), Complaints()))
    assert client.log_prediction("d", 1)
    assert threading.active_count() == before + 1
    del client
    gc.collect()
    assert gate.closed.wait(30)
    assert [len(parcel.rows) for parcel in gate.parcels] == [1]
