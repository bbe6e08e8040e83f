"""The token of scope admin that a data directory keeps, for whoever tries the API on this machine."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Final

from service import access_commands
from service.config import PostgresSettings
from service.domain.errors import Conflict
from service.usecases.access import DEFAULT_ORGANISATION, Scope

_USER: Final = "admin"


async def kept_token(postgres: PostgresSettings, file: Path) -> str:
    """The one of an earlier start, as long as the database knows it; else a new one."""
    kept = await asyncio.to_thread(_read, file)
    if kept is not None and await access_commands.is_known(postgres, kept):
        return kept
    with suppress(Conflict):
        await access_commands.create_user(postgres, _USER, full_name="Administrator", organisation=DEFAULT_ORGANISATION)
    made = await access_commands.create_token(postgres, _USER, scope=Scope.ADMIN, deployments=None, expires_at=None)
    await asyncio.to_thread(_write, file, made.token)
    return made.token


def _read(file: Path) -> str | None:
    return file.read_text(encoding="ascii").strip() if file.exists() else None


def _write(file: Path, token: str) -> None:
    """For the owner's eyes only."""
    file.unlink(missing_ok=True)
    file.touch(mode=0o600)
    file.write_text(f"{token}\n", encoding="ascii")
