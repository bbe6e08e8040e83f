"""Asks a running worker of this machine for a row, over the port of its probes."""

import asyncio
import json
from http.client import HTTPException
from typing import Final
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from urllib.request import ProxyHandler, build_opener

import msgspec

from service.domain.errors import Invalid
from service.ports import Unavailable
from service.wire.held_row import HeldRow, decode_held

_WITHIN_S: Final = 10.0


class NotHeld(Exception):
    """The worker answers that it can not tell the row, and why."""


async def held_by_worker(url: str, deployment_id: str, row_id: str) -> HeldRow:
    """Raises `NotHeld`, `Invalid` for what is no address, or `Unavailable`."""
    address = urlsplit(url)
    if address.scheme != "http" or not address.netloc:
        raise Invalid(f"worker: {url!r} must be an address such as http://127.0.0.1:9404")
    path = f"{url.rstrip('/')}/rows/{_quoted(deployment_id)}/{_quoted(row_id)}"
    try:
        return decode_held(await asyncio.to_thread(_get, path))
    except (OSError, HTTPException, msgspec.MsgspecError) as error:
        raise Unavailable(f"worker {url}: {error}") from error


def _quoted(text: str) -> str:
    """As one segment of a path, also where it is made of dots."""
    return quote(text, safe="").replace(".", "%2E")


def _get(url: str) -> bytes:
    """Around any proxy: a worker tells rows to its own machine only."""
    try:
        with build_opener(ProxyHandler({})).open(url, timeout=_WITHIN_S) as answer:
            body: bytes = answer.read()
            return body
    except HTTPError as error:
        raise NotHeld(_detail(error)) from None


def _detail(error: HTTPError) -> str:
    try:
        return str(json.loads(error.read())["detail"])
    except (ValueError, KeyError, TypeError):
        return f"{error.code} {error.reason}"
