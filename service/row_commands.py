"""What `tail` and `explain` do, once their arguments are read: open, look, close. Both only read."""

from collections.abc import Callable
from contextlib import aclosing

from service.adapters.kafka.connection import client_options
from service.adapters.kafka.status_reader import open_status_reader
from service.config import KafkaSettings
from service.usecases.status_stream import Following, Gap, Told, Wanted

Show = Callable[[Told | Gap], None]


async def tail(settings: KafkaSettings, wanted: Wanted, show: Show, flush: Callable[[], None]) -> None:
    """Show the statuses that are wanted, and every gap, as they come; for ever, or until the limit."""
    left = wanted.limit
    following = Following()
    reader = await open_status_reader(client_options(settings), settings.topic_prefix)
    partitions = wanted.partitions(reader.partitions)
    async with aclosing(reader.follow(partitions, wanted.since_ms)) as chunks:
        async for chunk in chunks:
            for one in (one for published in chunk for one in following.take(published)):
                if isinstance(one, Gap):
                    show(one)
                elif wanted.takes(one):
                    show(one)
                    left = None if left is None else left - 1
                    if left == 0:
                        flush()
                        return
            flush()
