"""What the commands for users and tokens do, once their arguments are read."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from service.adapters.clock import SystemClock
from service.adapters.postgres.access import PostgresAccess
from service.commands import migrated_pool
from service.config import PostgresSettings
from service.usecases import access as cases
from service.usecases.access import NewToken, Scope, User


async def create_user(settings: PostgresSettings, username: str, *, full_name: str | None, organisation: str) -> User:
    async with migrated_pool(settings) as pool:
        return await cases.create_user(
            PostgresAccess(pool), username, full_name=full_name, organisation=organisation, now=SystemClock().now()
        )


async def list_users(settings: PostgresSettings) -> list[dict[str, Any]]:
    async with migrated_pool(settings) as pool:
        return [cases.describe_user(user) for user in await PostgresAccess(pool).users()]


async def create_token(
    settings: PostgresSettings,
    username: str,
    *,
    scope: Scope,
    deployments: Sequence[str] | None,
    expires_at: datetime | None,
) -> NewToken:
    async with migrated_pool(settings) as pool:
        return await cases.create_token(
            PostgresAccess(pool),
            username,
            scope=scope,
            deployments=deployments,
            expires_at=expires_at,
            now=SystemClock().now(),
        )


async def is_known(settings: PostgresSettings, token: str) -> bool:
    """Whether it opens anything."""
    async with migrated_pool(settings) as pool:
        return await PostgresAccess(pool).principal(cases.hash_of(token)) is not None


async def list_tokens(settings: PostgresSettings, username: str | None) -> list[dict[str, Any]]:
    async with migrated_pool(settings) as pool:
        return [cases.describe_token(token) for token in await PostgresAccess(pool).tokens(username)]


async def revoke_token(settings: PostgresSettings, token_id: str) -> None:
    async with migrated_pool(settings) as pool:
        await cases.revoke_token(PostgresAccess(pool), token_id)
