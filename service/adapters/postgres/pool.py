"""Connections to Postgres: how a session is set up, and which faults pass by themselves.

Every session gives up early rather than hang: a statement after 30 s, a lock after 5 s, a transaction left alone after
2 s, a silent peer after keepalives of 5 s. A commit that returned must survive a crash of the server, since a worker
publishes on the strength of it: a session with `synchronous_commit` off is refused.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import asyncpg
import orjson

from service.ports import Unavailable

SESSION: Final = {
    "synchronous_commit": "on",
    "idle_in_transaction_session_timeout": "2s",
    "lock_timeout": "5s",
    "statement_timeout": "30s",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "timezone": "UTC",
}
CONNECT_WITHIN: Final = 10.0
ANSWER_WITHIN: Final = 35.0
"""Later than the server's own limit, for a server that can not even say so."""

_JSONB_VERSION = b"\x01"
_MAY_PASS = (
    OSError,  # time-outs too
    asyncpg.PostgresConnectionError,
    asyncpg.TransactionRollbackError,  # serialisation, deadlock
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,  # shutdown, cancelled
    asyncpg.PostgresSystemError,
    asyncpg.LockNotAvailableError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,  # a former primary
)
_NOT_ADMITTED = (
    asyncpg.InvalidAuthorizationSpecificationError,  # wrong password too
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
)

_CONNECTION_LOST = ("closed", "closing", "connection was", "released back to the pool", "protocol state")
"""Words of asyncpg's own errors; a session that ends while it is lent out counts as released."""


class NotAdmitted(Exception):
    """Postgres answers, but not to us: wrong name, password or database, or a right that is missing."""


class UnsafeSession(Exception):
    """Commits of this session may be lost in a crash of the server."""


@contextmanager
def translating() -> Iterator[None]:
    """Inside, faults that may pass by themselves are raised as `Unavailable`, refused log-ins as `NotAdmitted`."""
    try:
        yield
    except _MAY_PASS as error:
        raise Unavailable(f"Postgres: {_text(error)}") from error
    except _NOT_ADMITTED as error:
        raise NotAdmitted(f"Postgres: {_text(error)}") from error
    except asyncpg.InternalClientError as error:  # the protocol lost its step, as it may when a session is killed
        raise Unavailable(f"Postgres: {_text(error)}") from error
    except asyncpg.InterfaceError as error:
        if not _is_about_the_connection(error):
            raise
        raise Unavailable(f"Postgres: {_text(error)}") from error


@asynccontextmanager
async def open_pool(dsn: str, *, size: int, application_name: str) -> AsyncIterator[asyncpg.Pool]:
    """At most `size` sessions, set up as above. Raises `Unavailable`, `NotAdmitted` or `UnsafeSession`."""
    pool = asyncpg.create_pool(
        dsn,
        min_size=1,
        max_size=size,
        timeout=CONNECT_WITHIN,
        command_timeout=ANSWER_WITHIN,
        server_settings=SESSION | {"application_name": application_name},
        init=_set_up,
        reset=_leave_as_it_is,
    )
    with translating():
        await pool
    try:
        yield pool
    finally:
        await _close(pool)


@asynccontextmanager
async def open_connection(dsn: str, *, application_name: str) -> AsyncIterator[asyncpg.Connection]:
    """One session outside a pool, with time limits on connecting only. Faults inside are translated, too."""
    with translating():
        connection = await asyncpg.connect(
            dsn, timeout=CONNECT_WITHIN, server_settings={"application_name": application_name, "timezone": "UTC"}
        )
        try:
            yield connection
        finally:
            await connection.close(timeout=CONNECT_WITHIN)


async def _set_up(connection: asyncpg.Connection) -> None:
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=_encode_jsonb, decoder=_decode_jsonb, format="binary"
    )
    if (commit := await connection.fetchval("SHOW synchronous_commit")) != "on":
        raise UnsafeSession(f"synchronous_commit is {commit}; it must be on")


async def _leave_as_it_is(connection: asyncpg.Connection) -> None:
    """The library has ended a transaction that was left open; nothing here sets what outlives one."""


async def _close(pool: asyncpg.Pool) -> None:
    try:
        await asyncio.wait_for(pool.close(), CONNECT_WITHIN)
    except TimeoutError:
        pool.terminate()


def _encode_jsonb(value: Any) -> bytes:
    return _JSONB_VERSION + orjson.dumps(value)


def _decode_jsonb(payload: bytes) -> Any:
    return orjson.loads(payload[1:])


def _is_about_the_connection(error: Exception) -> bool:
    text = str(error)
    return any(sign in text for sign in _CONNECTION_LOST)


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
