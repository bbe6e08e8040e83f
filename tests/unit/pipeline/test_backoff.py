"""Waiting between tries."""

from service.pipeline.backoff import Backoff
from tests.flow.virtual_loop import VirtualLoop


def waited(times: int, reset_after: int | None = None) -> list[float]:
    """Seconds of each wait."""
    pauses: list[float] = []
    loop = VirtualLoop(lambda seconds: None)

    async def tries() -> None:
        backoff = Backoff()
        for number in range(times):
            before = loop.time()
            await backoff.wait()
            pauses.append(round(loop.time() - before, 6))
            if number == reset_after:
                backoff.reset()

    try:
        loop.run_until_complete(tries())
    finally:
        loop.close()
    return pauses


def test_each_wait_is_twice_as_long_up_to_a_cap() -> None:
    assert waited(9) == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]


def test_after_a_success_it_begins_anew() -> None:
    assert waited(5, reset_after=2) == [0.1, 0.2, 0.4, 0.1, 0.2]
