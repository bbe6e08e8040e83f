"""Users and tokens on Postgres."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import asyncpg

from service.adapters.postgres.pool import translating
from service.adapters.postgres.queries import statement
from service.usecases.access import Principal, Scope, TokenSummary, User

_PRINCIPAL: Final = statement("access_principal")
_ORGANISATION: Final = statement("deployment_organisation")
_ADD_USER: Final = statement("user_add")
_USERS: Final = statement("user_list")
_ADD_TOKEN: Final = statement("token_add")
_TOKENS: Final = statement("token_list")
_REVOKE: Final = statement("token_revoke")


class PostgresAccess:
    """`service.usecases.access.Access` on Postgres."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def principal(self, token_hash: bytes) -> Principal | None:
        with translating():
            row = await self._pool.fetchrow(_PRINCIPAL, token_hash)
        return None if row is None else _principal(row)

    async def organisation_of(self, deployment_id: str) -> str | None:
        with translating():
            organisation: str | None = await self._pool.fetchval(_ORGANISATION, deployment_id)
        return organisation

    async def add_user(self, user: User) -> bool:
        columns = (user.id, user.username, user.full_name, user.organisation, user.created_at)
        with translating():
            return await self._pool.fetchval(_ADD_USER, *columns) is not None

    async def user(self, username: str) -> User | None:
        with translating():
            row = await self._pool.fetchrow(_USERS, username)
        return None if row is None else User(**dict(row))

    async def users(self) -> list[User]:
        with translating():
            rows = await self._pool.fetch(_USERS, None)
        return [User(**dict(row)) for row in rows]

    async def add_token(
        self,
        token_id: str,
        token_hash: bytes,
        user_id: str,
        *,
        scope: Scope,
        deployments: Sequence[str] | None,
        expires_at: datetime | None,
    ) -> None:
        granted = None if deployments is None else list(deployments)
        with translating():
            await self._pool.execute(_ADD_TOKEN, token_id, token_hash, user_id, scope, granted, expires_at)

    async def tokens(self, username: str | None) -> list[TokenSummary]:
        with translating():
            rows = await self._pool.fetch(_TOKENS, username)
        return [TokenSummary(**dict(row) | {"scope": Scope(row["scope"])}) for row in rows]

    async def revoke(self, token_id: str) -> bool:
        with translating():
            return await self._pool.fetchval(_REVOKE, token_id) is not None


def _principal(row: Mapping[str, Any]) -> Principal:
    granted = row["deployments"]
    return Principal(
        user_id=row["id"],
        username=row["username"],
        full_name=row["full_name"],
        organisation=row["organisation"],
        scope=Scope(row["scope"]),
        deployments=None if granted is None else frozenset(granted),
    )
