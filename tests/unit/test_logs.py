"""The log: one renderer for ours and the libraries', levels, and no secret in any line."""

import io
import json
import logging
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest
import structlog
from pydantic import SecretStr

from service.logs import configure_logging


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()


def configured(
    level: Literal["DEBUG", "INFO", "WARNING"] = "INFO", format: Literal["json", "text"] = "json"
) -> io.StringIO:
    stream = io.StringIO()
    configure_logging(level, format, stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_of_ours_is_one_json_object() -> None:
    stream = configured()
    structlog.get_logger("service.pipeline").info(
        "micro-batch", task=3, records=10_000, at=datetime(2013, 1, 1, tzinfo=UTC)
    )
    (line,) = lines(stream)
    written_at = datetime.fromisoformat(line.pop("timestamp"))
    assert written_at.utcoffset() == timedelta(0)
    assert line == {
        "event": "micro-batch",
        "level": "info",
        "logger": "service.pipeline",
        "task": 3,
        "records": 10_000,
        "at": "2013-01-01T00:00:00Z",
    }


@pytest.mark.parametrize("name", ["aiokafka.consumer", "uvicorn.error", "alembic.runtime.migration", "anything"])
def test_a_line_of_a_library_looks_the_same(name: str) -> None:
    stream = configured()
    logging.getLogger(name).warning("lost %s of %d", "one", 2, extra={"partition": 4, "color_message": "x"})
    (line,) = lines(stream)
    del line["timestamp"]
    assert line == {"event": "lost one of 2", "level": "warning", "logger": name, "partition": 4}


def test_the_level_holds_for_all() -> None:
    stream = configured("WARNING")
    for name in ("service.pipeline", "aiokafka", "alembic"):
        structlog.get_logger(name).info("no")
        logging.getLogger(name).info("no")
        logging.getLogger(name).warning(name)
    assert [line["event"] for line in lines(stream)] == ["service.pipeline", "aiokafka", "alembic"]


def test_talkative_libraries_stay_quiet_when_we_debug() -> None:
    stream = configured("DEBUG")
    structlog.get_logger("service.pipeline").debug("ours")
    logging.getLogger("aiokafka.conn").debug("a request")
    logging.getLogger("uvicorn.access").info("GET /")
    assert [line["event"] for line in lines(stream)] == ["ours"]


def test_configuring_again_replaces() -> None:
    first, second = configured(), configured()
    structlog.get_logger("a").info("once")
    assert lines(first) == []
    assert len(lines(second)) == 1


@pytest.mark.parametrize("format", ["json", "text"])
def test_an_exception_is_in_the_line_without_local_variables(format: Literal["json", "text"]) -> None:
    stream = configured(format=format)
    feature = 4711.0 + 0.25
    try:
        raise ValueError("no such thing")
    except ValueError:
        structlog.get_logger("a").exception("failed")
    assert "ValueError: no such thing" in stream.getvalue()
    assert str(feature) not in stream.getvalue()


@pytest.mark.parametrize("format", ["json", "text"])
def test_no_secret_is_written(format: Literal["json", "text"]) -> None:
    stream = configured(format=format)
    log = structlog.get_logger("a")
    dsn = "postgresql://me:hunter2@db:5432/hindsight"
    log.info(f"connecting to {dsn}", dsn=dsn, sasl_password="hunter2", secret=SecretStr("hunter2"))
    log.info("settings", kafka={"sasl_password": "hunter2", "group_id": "shown"}, headers={"Authorization": "hunter2"})
    log.info("by query", dsn="postgresql://db/hindsight?user=me&password=hunter2")
    logging.getLogger("asyncpg").warning("cannot reach %s", dsn)
    try:
        raise ConnectionError(dsn)
    except ConnectionError:
        log.exception("failed")
    assert "hunter2" not in stream.getvalue()
    assert "me:********@db:5432" in stream.getvalue()
    assert "shown" in stream.getvalue()


@pytest.mark.parametrize("value", [2**70, "\ud800", float("nan"), {1: b"bytes"}, object()])
def test_no_value_costs_the_line(value: object) -> None:
    stream = configured()
    structlog.get_logger("a").info("odd", value=value)
    assert lines(stream)[0]["event"] == "odd"


def test_context_is_in_every_line() -> None:
    stream = configured()
    with structlog.contextvars.bound_contextvars(task=3):
        logging.getLogger("aiokafka").warning("theirs")
        structlog.get_logger("a").info("ours")
    assert [line["task"] for line in lines(stream)] == [3, 3]


def test_text_is_for_people() -> None:
    stream = configured(format="text")
    structlog.get_logger("a").info("started", port=9404)
    assert "started" in stream.getvalue()
    assert "port=9404" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_standard_error_is_the_default() -> None:
    configure_logging("INFO", "json")
    (handler,) = [known for known in logging.getLogger().handlers if type(known).__module__ == "service.logs"]
    assert isinstance(handler, logging.StreamHandler)
    assert handler.stream is sys.stderr
