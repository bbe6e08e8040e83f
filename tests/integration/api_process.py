"""An API as an operator runs it: a process of its own over the servers of one site, and who speaks to it."""

import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from service.devstack.processes import Child, Command, start_child
from tests.integration.worker import Site, until


@dataclass(slots=True)
class ApiProcess:
    child: Child
    log: Path
    url: str = ""
    token: str = ""

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def client(self, token: str | None = None) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {self.token if token is None else token}"}
        return httpx.AsyncClient(base_url=f"{self.url}/api/v2", headers=headers, timeout=60)

    def kill(self) -> None:
        """As kill -9 does."""
        os.kill(self.child.pid, signal.SIGKILL)

    async def _listens(self) -> bool:
        assert self.child.running, f"the API has ended\n{self.text()[-6000:]}"
        for line in self.text().splitlines():
            if '"api is up"' in line:
                self.url = f"http://127.0.0.1:{json.loads(line)['port']}"
        return bool(self.url)

    async def up(self) -> None:
        await until(self._listens, what="api is up")


@asynccontextmanager
async def open_api(site: Site, name: str = "api", **changed: str) -> AsyncIterator[ApiProcess]:
    """A started API with a token of scope admin, killed at the end if it still runs."""
    token = await make_token(site, name)
    log = site.directory / f"{name}-{len(list(site.directory.glob('*.log')))}.log"
    argv = (sys.executable, "-m", "service", "api")
    child = await start_child(Command(argv=argv, environment=site.settings(**{"API__PORT": "0"} | changed)), output=log)
    process = ApiProcess(child, log, token=token)
    try:
        await process.up()
        yield process
    finally:
        await child.kill()


async def make_token(site: Site, username: str, scope: str = "admin") -> str:
    """Of a user who is made first where there is none: through the command line, as an operator does."""
    await site.said("users", "create", username)
    return (await site.run("tokens", "create", "--user", username, "--scope", scope)).splitlines()[-1]
