"""The HTTP server inside a running loop: bound when entered, gone when left, signals untouched."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI

from service.api.server import serve


def hello() -> FastAPI:
    app = FastAPI()

    @app.get("/")
    async def root() -> str:
        return "hello"

    return app


async def get(port: int) -> httpx.Response:
    async with httpx.AsyncClient() as client:
        return await client.get(f"http://127.0.0.1:{port}/")


async def test_it_answers_while_the_body_runs_and_not_after() -> None:
    async with serve(hello(), "127.0.0.1", 0) as port:
        assert (await get(port)).json() == "hello"
    with pytest.raises(httpx.ConnectError):
        await get(port)


async def test_the_same_port_is_free_again_at_once() -> None:
    async with serve(hello(), "127.0.0.1", 0) as port:
        await get(port)
    async with serve(hello(), "127.0.0.1", port) as again:
        assert again == port
        assert (await get(port)).status_code == 200


async def test_two_run_in_one_loop() -> None:
    async with serve(hello(), "127.0.0.1", 0) as one, serve(hello(), "127.0.0.1", 0) as other:
        assert one != other
        assert (await get(one)).status_code == (await get(other)).status_code == 200


async def test_a_taken_port_is_an_error_that_names_it() -> None:
    async with serve(hello(), "127.0.0.1", 0) as port:
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}"):
            async with serve(hello(), "127.0.0.1", port):
                pass


async def test_signals_stay_as_they_were() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    async with serve(hello(), "127.0.0.1", 0):
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


async def test_an_error_in_the_body_comes_through_and_stops_it() -> None:
    ports = []
    with pytest.raises(ZeroDivisionError):
        async with serve(hello(), "127.0.0.1", 0) as port:
            ports.append(port)
            raise ZeroDivisionError
    with pytest.raises(httpx.ConnectError):
        await get(ports[0])


async def test_an_application_that_does_not_start_is_an_error_here_not_the_end_of_the_process() -> None:
    @asynccontextmanager
    async def broken(_: FastAPI) -> AsyncIterator[None]:
        raise ConnectionError("no database")
        yield

    with pytest.raises(RuntimeError, match="did not start"):
        async with serve(FastAPI(lifespan=broken), "127.0.0.1", 0):
            pass


async def test_a_request_under_way_is_answered_before_it_stops() -> None:
    app, arrived, go_on = FastAPI(), asyncio.Event(), asyncio.Event()

    @app.get("/")
    async def root() -> str:
        arrived.set()
        await go_on.wait()
        return "late"

    async with serve(app, "127.0.0.1", 0) as port:
        answer = asyncio.create_task(get(port))
        await arrived.wait()
        asyncio.get_running_loop().call_later(0.2, go_on.set)
    assert (await answer).json() == "late"
