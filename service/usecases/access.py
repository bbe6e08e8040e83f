"""Users and their tokens: who may ask, and for what.

A token is shown once, when it is made; only its SHA-256 is kept (it is random, so a hash needs no salt). It acts as its
user, in the user's organisation. `read` answers questions, `write` sends data and changes things, `admin` may also
delete a whole deployment. A token can be confined to some deployments; all others, and making new ones, are then closed
to it.
"""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Protocol

from service.domain.errors import Conflict, Forbidden, Invalid, NotFound
from service.domain.ids import is_object_id
from service.usecases.object_ids import new_object_id

DEFAULT_ORGANISATION: Final = "default"
_PREFIX: Final = "hs_"


class Scope(StrEnum):
    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    id: str
    username: str
    full_name: str
    organisation: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Whoever is behind a request: a user, and what the token allows."""

    user_id: str
    username: str
    full_name: str
    organisation: str
    scope: Scope
    deployments: frozenset[str] | None = None
    """The only deployments that are open; None: all of the organisation."""

    @property
    def may_write(self) -> bool:
        return self.scope is not Scope.READ

    @property
    def author(self) -> dict[str, str]:
        """As it is kept beside what the user makes."""
        return {"id": self.user_id, "name": self.full_name}

    def sees(self, organisation: str, deployment_id: str) -> bool:
        return organisation == self.organisation and (self.deployments is None or deployment_id in self.deployments)

    def require_write(self) -> None:
        """Raises `Forbidden`."""
        if not self.may_write:
            raise Forbidden("this token may only read")

    def require_organisation(self) -> None:
        """What is no part of one deployment. Raises `Forbidden`."""
        self.require_write()
        if self.deployments is not None:
            raise Forbidden("this token is confined to deployments")

    def require_admin(self) -> None:
        """Raises `Forbidden`."""
        if self.scope is not Scope.ADMIN:
            raise Forbidden("this needs a token of scope admin")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSummary:
    """A token as far as it is known: everything but itself."""

    id: str
    username: str
    organisation: str
    scope: Scope
    deployments: Sequence[str] | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    id: str
    token: str


class Access(Protocol):
    """Where users and tokens are kept. Every method may raise `Unavailable`."""

    async def principal(self, token_hash: bytes) -> Principal | None:
        """Whose token it is; None where it is unknown, has expired or was revoked."""

    async def organisation_of(self, deployment_id: str) -> str | None:
        """Whose deployment it is; None where there is none, or it was deleted."""

    async def add_user(self, user: User) -> bool:
        """Whether the name was free."""

    async def user(self, username: str) -> User | None: ...

    async def users(self) -> list[User]:
        """By name."""

    async def add_token(
        self,
        token_id: str,
        token_hash: bytes,
        user_id: str,
        *,
        scope: Scope,
        deployments: Sequence[str] | None,
        expires_at: datetime | None,
    ) -> None: ...

    async def tokens(self, username: str | None) -> list[TokenSummary]:
        """The oldest first; of everybody without a name."""

    async def revoke(self, token_id: str) -> bool:
        """Whether there is such a token; one that is revoked already stays so."""


def hash_of(token: str) -> bytes:
    """What is kept of a token."""
    return hashlib.sha256(token.encode()).digest()


async def require_visible(access: Access, principal: Principal, deployment_id: str) -> None:
    """Raises `NotFound`, also where the deployment is there, but not for them."""
    organisation = await access.organisation_of(deployment_id) if is_object_id(deployment_id) else None
    if organisation is None or not principal.sees(organisation, deployment_id):
        raise NotFound(f"there is no deployment {deployment_id[:128]!r}")


async def create_user(
    access: Access, username: str, *, full_name: str | None, organisation: str, now: datetime
) -> User:
    """Raises `Invalid`, or `Conflict` where the name is taken."""
    if not 1 <= len(username) <= 256 or "\0" in username:
        raise Invalid("username: must have 1 to 256 characters")
    if not is_object_id(organisation):
        raise Invalid("organisation: must be 1 to 128 of A-Z a-z 0-9 . _ -")
    user = User(
        id=new_object_id(),
        username=username,
        full_name=full_name or username,
        organisation=organisation,
        created_at=now,
    )
    if not await access.add_user(user):
        raise Conflict(f"there is a user {username!r} already")
    return user


async def create_token(
    access: Access,
    username: str,
    *,
    scope: Scope,
    deployments: Sequence[str] | None,
    expires_at: datetime | None,
    now: datetime,
) -> NewToken:
    """Raises `NotFound` for the user, or `Invalid`."""
    for name in deployments or ():
        if not is_object_id(name):
            raise Invalid(f"deployment: {name!r} is not 1 to 128 of A-Z a-z 0-9 . _ -")
    if expires_at is not None and expires_at <= now:
        raise Invalid("expires: must lie ahead")
    user = await access.user(username)
    if user is None:
        raise NotFound(f"there is no user {username!r}")
    made = NewToken(id=new_object_id(), token=_PREFIX + secrets.token_urlsafe(32))
    await access.add_token(
        made.id, hash_of(made.token), user.id, scope=scope, deployments=deployments, expires_at=expires_at
    )
    return made


async def revoke_token(access: Access, token_id: str) -> None:
    """From here on it opens nothing. Raises `NotFound`."""
    if not await access.revoke(token_id):
        raise NotFound(f"there is no token {token_id!r}")


def describe_user(user: User) -> dict[str, Any]:
    """Ready for JSON."""
    return {
        "id": user.id,
        "username": user.username,
        "fullName": user.full_name,
        "organisation": user.organisation,
        "createdAt": user.created_at.isoformat(),
    }


def describe_token(token: TokenSummary) -> dict[str, Any]:
    """Ready for JSON."""
    return {
        "id": token.id,
        "user": token.username,
        "organisation": token.organisation,
        "scope": token.scope,
        "deployments": None if token.deployments is None else list(token.deployments),
        "createdAt": token.created_at.isoformat(),
        "expiresAt": token.expires_at.isoformat() if token.expires_at else None,
        "revokedAt": token.revoked_at.isoformat() if token.revoked_at else None,
    }
