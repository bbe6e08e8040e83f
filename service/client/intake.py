"""What both clients do with a call: say it in the words of the transport, or refuse it; never raise."""

from typing import Final

from service.adapters.clock import SystemClock
from service.client.buffer import Buffer, Counts, Put
from service.client.complaints import Complaints
from service.client.rows import Row
from service.client.values import BadValue
from service.client.wording import Actual, Prediction, Wording

_CLOSED: Final = "the client is closed (or not opened, or made before a fork: make one in each process)"


class Intake:
    """Counts and tells whatever is not taken."""

    def __init__(self, wording: Wording, buffer: Buffer, complaints: Complaints) -> None:
        self._wording = wording
        self._buffer = buffer
        self._complaints = complaints
        self.now = SystemClock().now

    @property
    def counts(self) -> Counts:
        return self._buffer.counts

    def row(self, given: Prediction | Actual) -> Row | None:
        """None: it can not be said, which is counted."""
        try:
            if isinstance(given, Prediction):
                return self._wording.prediction(given)
            return self._wording.actual(given)
        except BadValue as error:
            self._refuse(str(error))
        except Exception as error:  # whatever objects of any library do: the caller's request goes on
            self._refuse(f"a value raises {type(error).__name__} when it is looked at")
        return None

    def _refuse(self, why: str) -> None:
        self._buffer.count_bad()
        self._complaints.tell("refused", why)

    def told(self, put: Put) -> bool:
        """Count and tell a row that was not taken; whether it was."""
        match put:
            case Put.TAKEN:
                return True
            case Put.FULL:
                self._buffer.count_dropped()
                self._complaints.tell("dropped", "the buffer is full; rows come faster than they go out")
            case Put.CLOSED:
                self._buffer.count_closed()
                self._complaints.tell("closed", _CLOSED)
        return False
