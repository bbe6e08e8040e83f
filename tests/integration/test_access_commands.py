"""`hindsight users` and `hindsight tokens`, as an operator types them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable

import asyncpg
import pytest

from service.adapters.postgres.access import PostgresAccess
from service.adapters.postgres.migrate import migrate
from service.adapters.postgres.pool import open_pool
from service.usecases.access import hash_of

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
async def hindsight(database: str) -> Command:
    """Runs the command line over a fresh database."""
    await migrate(database)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "service", *arguments],
            env={"HINDSIGHT_POSTGRES__DSN": database, "PATH": os.environ["PATH"], "PYTHONPATH": "."},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


async def test_a_token_is_shown_once_and_only_its_hash_is_kept(hindsight: Command, database: str) -> None:
    made = hindsight("users", "create", "alice", "--full-name", "Alice A.")
    assert made.returncode == 0, made.stderr
    made = hindsight(
        "tokens", "create", "--user", "alice", "--scope", "write", "--deployment", "d1", "--deployment", "d2",
        "--expires", "2999-01-01T00:00Z",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    token = made.stdout.splitlines()[-1]
    async with open_pool(database, size=2, application_name="test") as pool:
        found = await PostgresAccess(pool).principal(hash_of(token))
        everything = [str(dict(row)) for row in await pool.fetch("SELECT * FROM tokens")]
    assert found is not None
    assert (found.username, found.full_name, found.organisation, found.scope) == (
        "alice",
        "Alice A.",
        "default",
        "write",
    )
    assert found.deployments == frozenset({"d1", "d2"})
    assert all(token not in row for row in everything)
    listed = json.loads(hindsight("tokens", "list", "--json").stdout)
    assert [(one["user"], one["scope"], one["deployments"], one["revokedAt"]) for one in listed] == [
        ("alice", "write", ["d1", "d2"], None)
    ]
    assert token not in hindsight("tokens", "list").stdout
    assert hindsight("tokens", "revoke", listed[0]["id"]).returncode == 0
    async with open_pool(database, size=2, application_name="test") as pool:
        assert await PostgresAccess(pool).principal(hash_of(token)) is None
    assert json.loads(hindsight("tokens", "list", "--user", "alice", "--json").stdout)[0]["revokedAt"] is not None


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("users", "create", "alice"), 1, "there is a user 'alice' already"),
        (("users", "create", "x" * 257), 2, "username: must have 1 to 256 characters"),
        (("users", "create", "bob", "--organisation", "a b"), 2, "organisation: must be"),
        (("tokens", "create", "--user", "nobody", "--scope", "read"), 1, "there is no user 'nobody'"),
        (("tokens", "create", "--user", "alice", "--scope", "all"), 2, "Invalid value for '--scope'"),
        (
            ("tokens", "create", "--user", "alice", "--scope", "read", "--expires", "2020-01-01T00:00Z"),
            2,
            "expires: must lie ahead",
        ),
        (("tokens", "create", "--user", "alice", "--scope", "read", "--deployment", "a/b"), 2, "deployment: 'a/b'"),
        (("tokens", "revoke", "nothing"), 1, "there is no token 'nothing'"),
    ],
)
async def test_what_can_not_be_done_is_told(
    hindsight: Command, database: str, arguments: tuple[str, ...], code: int, said: str
) -> None:
    connection = await asyncpg.connect(database)
    try:
        await connection.execute(
            "INSERT INTO users (id, username, full_name, organisation) VALUES ('u', 'alice', 'Alice', 'default')"
        )
    finally:
        await connection.close()
    failed = hindsight(*arguments)
    assert failed.returncode == code, failed
    assert said in failed.stderr.replace("\n", " ")
    assert failed.stdout == ""
