"""How long the status topic keeps rows, asked for at most once a minute."""

from datetime import datetime, timedelta
from typing import Any, Final

from service.adapters.kafka.topics import topic_retention
from service.domain.records import Topic
from service.ports import Clock

_REMEMBERED_FOR: Final = timedelta(minutes=1)


class KafkaStatusRetention:
    """`service.usecases.deployment_settings.StatusRetention` on Kafka."""

    def __init__(self, options: dict[str, Any], prefix: str, clock: Clock) -> None:
        self._options = options
        self._prefix = prefix
        self._clock = clock
        self._known: tuple[datetime, timedelta | None] | None = None

    async def kept_for(self) -> timedelta | None:
        now = self._clock.now()
        if self._known is None or not timedelta() <= now - self._known[0] < _REMEMBERED_FOR:
            self._known = now, await topic_retention(self._options, self._prefix, Topic.STATUS)
        return self._known[1]
