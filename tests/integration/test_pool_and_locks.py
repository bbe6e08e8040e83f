"""Sessions, faults and advisory locks on a real Postgres."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import asyncpg
import pytest

from service.adapters.postgres.ledger import PostgresLedger
from service.adapters.postgres.locks import LockKey, batch_lock, deployment_lock, lock_columns, lock_exclusive
from service.adapters.postgres.migrate import migrate
from service.adapters.postgres.pool import SESSION, NotAdmitted, UnsafeSession, open_pool, translating
from service.adapters.postgres.queries import statement
from service.ports import Owner, SettingsMoved, Unavailable
from tests.builders import after

OWNER = Owner(instance="worker", process=UUID(int=1))
BOTH = [deployment_lock("d"), batch_lock("d", "b")]

_DEPLOYMENT = """
INSERT INTO deployments (id, label, origin, target_type) VALUES ('d', 'd', 'registered', 'Regression')
"""


@pytest.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool]:
    async with open_pool(database, size=4, application_name="hindsight-test") as opened:
        yield opened


async def waiting_for_locks(pool: asyncpg.Pool) -> bool:
    return bool(await pool.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))


async def until_waiting_for_locks(pool: asyncpg.Pool) -> None:
    async with asyncio.timeout(10):
        while True:
            if await waiting_for_locks(pool):
                return
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("synchronous_commit", "on"),
        ("idle_in_transaction_session_timeout", "2s"),
        ("lock_timeout", "5s"),
        ("statement_timeout", "30s"),
        ("tcp_keepalives_idle", "5"),
        ("application_name", "hindsight-test"),
        ("TimeZone", "UTC"),
    ],
)
async def test_sessions_are_set_up(pool: asyncpg.Pool, name: str, value: str) -> None:
    assert await pool.fetchval(f"SHOW {name}") == value
    async with pool.acquire() as connection:
        await connection.execute(f"SET {name} TO DEFAULT")
    assert await pool.fetchval(f"SHOW {name}") == value


async def test_json_comes_and_goes_as_it_is(pool: asyncpg.Pool) -> None:
    value = {"a": [1, 0.1, None, True, "ü"], "b": {}}
    assert await pool.fetchval("SELECT $1::jsonb", value) == value


async def test_a_role_that_may_lose_commits_is_overruled(database: str, pool: asyncpg.Pool) -> None:
    await pool.execute(
        "ALTER ROLE CURRENT_USER IN DATABASE " + database.rsplit("/", 1)[1] + " SET synchronous_commit = off"
    )
    async with open_pool(database, size=1, application_name="again") as again:
        assert await again.fetchval("SHOW synchronous_commit") == "on"


async def test_an_unsafe_session_is_refused(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SESSION, "synchronous_commit", "local")
    with pytest.raises(UnsafeSession, match="synchronous_commit is local"):
        async with open_pool(database, size=1, application_name="unsafe"):
            pass


async def test_a_killed_session_is_unavailable_and_the_pool_recovers(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as victim:
        number = victim.get_server_pid()
        await pool.execute("SELECT pg_terminate_backend($1)", number)
        with pytest.raises(Unavailable), translating():
            await victim.fetchval("SELECT 1")
        with pytest.raises(Unavailable), translating():
            await victim.fetchval("SELECT 1")
    assert await pool.fetchval("SELECT 1") == 1


async def test_a_session_killed_in_a_transaction_is_unavailable(pool: asyncpg.Pool) -> None:
    with pytest.raises(Unavailable), translating():
        async with pool.acquire() as victim, victim.transaction():
            await pool.execute("SELECT pg_terminate_backend($1)", victim.get_server_pid())
            await victim.execute("SELECT 1")
    assert await pool.fetchval("SELECT 1") == 1


async def test_a_transaction_left_alone_is_ended(pool: asyncpg.Pool) -> None:
    with pytest.raises(Unavailable), translating():
        async with pool.acquire() as forgetful, forgetful.transaction():
            await forgetful.execute("SET LOCAL idle_in_transaction_session_timeout TO 10")
            number = forgetful.get_server_pid()
            async with asyncio.timeout(10):
                while await pool.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", number):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            await forgetful.execute("SELECT 1")


async def test_deadlocks_are_unavailable(pool: asyncpg.Pool) -> None:
    async def take(first: int, second: int, both_hold_one: asyncio.Barrier) -> None:
        with translating():
            async with pool.acquire() as connection, connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock($1)", first)
                await both_hold_one.wait()
                await connection.execute("SELECT pg_advisory_xact_lock($1)", second)

    barrier = asyncio.Barrier(2)
    ends = await asyncio.gather(take(1, 2, barrier), take(2, 1, barrier), return_exceptions=True)
    assert [type(end) for end in ends if end is not None] == [Unavailable]


async def test_cancelled_statements_are_unavailable(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as connection:
        await connection.execute("SET statement_timeout TO 10")
        with pytest.raises(Unavailable, match="statement timeout"), translating():
            await connection.execute("SELECT pg_sleep(10)")


async def test_mistakes_are_not_unavailable(pool: asyncpg.Pool) -> None:
    with pytest.raises(asyncpg.UndefinedTableError), translating():
        await pool.execute("SELECT * FROM nothing_of_that_name")


async def test_a_wrong_password_is_no_outage(database: str) -> None:
    with pytest.raises(NotAdmitted, match="password authentication failed"):
        async with open_pool(database.replace("hindsight:", "hindsight:x"), size=1, application_name="x"):
            pass


async def test_workers_share_and_a_change_waits_for_them(database: str, pool: asyncpg.Pool) -> None:
    """
    worker 1   |--shared------------|
    worker 2      |--shared---|
    change              |~~~~~~~~~~~|--exclusive--|
    """
    done: list[str] = []
    await migrate(database)
    ledger = PostgresLedger(pool)
    await ledger.claim("g", 2, {})
    epochs = [(await ledger.take_over(task, OWNER)).epoch for task in range(2)]

    async def advance(connection: asyncpg.Connection, task: int, keys: list[LockKey]) -> None:
        of_task: tuple[object, ...] = (task, epochs[task], 0, 0, {}, {}, None, None, b"")
        assert await connection.fetchval(statement("ledger_advance"), *of_task, *lock_columns(keys)) == 1

    async def change() -> None:
        async with pool.acquire() as connection, connection.transaction():
            await lock_exclusive(connection, BOTH[1:])
            done.append("change")

    async with pool.acquire() as one, one.transaction():
        await advance(one, 0, BOTH)
        async with pool.acquire() as two, two.transaction():
            await advance(two, 1, BOTH)
        changing = asyncio.create_task(change())
        await until_waiting_for_locks(pool)
        done.append("worker")
    await changing
    assert done == ["worker", "change"]


async def test_a_change_that_a_worker_had_to_wait_for_is_seen(database: str, pool: asyncpg.Pool) -> None:
    """
    change   |--exclusive--|
    worker      |~~~~~~~~~~|--shared, refused--|
    """
    await migrate(database)
    ledger = PostgresLedger(pool)
    await ledger.claim("g", 1, {})
    mine = await ledger.take_over(0, OWNER)
    await pool.execute(_DEPLOYMENT)
    version = await pool.fetchval("SELECT version FROM deployments")
    async with pool.acquire() as connection, connection.transaction():
        await lock_exclusive(connection, BOTH)
        persisting = asyncio.create_task(ledger.persist(after(mine, deployment_versions={"d": version})))
        await until_waiting_for_locks(pool)
        await connection.execute("UPDATE deployments SET version = version + 1")
    with pytest.raises(SettingsMoved):
        await persisting
    assert await ledger.read(0) == mine
