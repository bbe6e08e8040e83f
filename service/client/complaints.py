"""What the client has to say: to the log `service.client`, of each reason one line every few seconds at most."""

import logging
from typing import Final

from service.adapters.clock import SystemClock

EVERY_S: Final = 5.0
_log = logging.getLogger("service.client")


class Complaints:
    """Reasons are few and fixed. Two threads that complain at once may both be heard; that does no harm."""

    def __init__(self) -> None:
        self._monotonic = SystemClock().monotonic
        self._last: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    def tell(self, reason: str, text: str, *, rows: int = 1) -> None:
        """`text` names fields, rules and addresses, never values of a row nor secrets."""
        now = self._monotonic()
        unsaid = self._unsaid.get(reason, 0)
        if now - self._last.get(reason, -EVERY_S) < EVERY_S:
            self._unsaid[reason] = unsaid + rows
            return
        self._last[reason] = now
        self._unsaid[reason] = 0
        more = f" ({unsaid:,} more rows since the last such line)" if unsaid else ""
        _log.warning("%s: %s%s", reason, text, more)
