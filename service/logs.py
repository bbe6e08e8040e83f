"""The log: one JSON object a line on standard error, ours and that of the libraries alike.

Every line has `timestamp` (UTC, ISO 8601), `level`, `logger`, `event`, and the fields given with it. A `SecretStr`
prints as stars by itself; besides, a field whose name says that it is secret is masked here, and so is the password of
an address wherever it stands in a line, a traceback included.

Not here: what is worth a line (at most one a micro-batch; nothing of a row, no feature value).
"""

import json
import logging
import re
import sys
from collections.abc import Mapping
from typing import Any, Final, Literal, TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

MASK: Final = "********"

_SECRET_NAME = re.compile(r"passw|secret|token|authorization|credential|api_?key", re.IGNORECASE)
_PASSWORD_IN_ADDRESS = re.compile(r"(\w+://[^\s:@/\"]*):[^\s@\"]+@")
_PASSWORD_IN_QUERY = re.compile(r"([?&](?:ssl)?password=)[^&\s\"']*", re.IGNORECASE)
_LEAST_LEVELS: Final = {
    "asyncpg.pool": logging.ERROR,  # a traceback for every connection that it can not keep ready in an outage
    "aiokafka": logging.INFO,  # below that, a line for every request
    "asyncio": logging.INFO,
    "faust": logging.WARNING,  # below that, a line for every step of its services
    "mode": logging.WARNING,
    "uvicorn": logging.INFO,
    "uvicorn.access": logging.WARNING,  # requests are metrics
}


class _Handler(logging.StreamHandler[TextIO]):
    """A type of its own, to be found and replaced."""


def configure_logging(
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"], format: Literal["json", "text"], stream: TextIO | None = None
) -> None:
    """Send every line of the process to `stream` (standard error); a later call replaces what this one set up."""
    stream = stream or sys.stderr
    prepare: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    handler = _Handler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*prepare, structlog.stdlib.ExtraAdder(), _drop_repetitions],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _mask_fields,
                *_render(format, stream),
            ],
        )
    )
    _route_standard_logging(level, handler)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *prepare,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


def _route_standard_logging(level: str, handler: logging.Handler) -> None:
    root = logging.getLogger()
    for former in [known for known in root.handlers if isinstance(known, _Handler)]:
        root.removeHandler(former)
    root.addHandler(handler)
    root.setLevel(level)
    for name, least in _LEAST_LEVELS.items():
        logging.getLogger(name).setLevel(max(least, root.level))
    logging.captureWarnings(True)


def _render(format: Literal["json", "text"], stream: TextIO) -> list[Processor]:
    if format == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_json), _mask_addresses]
    plain = structlog.dev.plain_traceback  # a rich one would show local variables
    return [structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=plain), _mask_addresses]


def _json(fields: Mapping[str, Any], **_: Any) -> str:
    try:
        return orjson.dumps(fields, default=repr, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z).decode()
    except TypeError:  # what orjson refuses (huge integers, lone surrogates) must not cost the line
        return json.dumps(fields, default=repr)


def _drop_repetitions(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """What other handlers and uvicorn leave on a standard record: the event once more."""
    return {name: value for name, value in event.items() if name not in ("message", "color_message")}


def _mask_fields(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return {name: _masked(name, value) for name, value in event.items()}


def _masked(name: str, value: object) -> object:
    if _SECRET_NAME.search(name):
        return MASK
    if isinstance(value, Mapping):
        return {key: _masked(str(key), inner) for key, inner in value.items()}
    return value


def _mask_addresses(_: WrappedLogger, __: str, line: Any) -> str:
    return _PASSWORD_IN_QUERY.sub(rf"\1{MASK}", _PASSWORD_IN_ADDRESS.sub(rf"\1:{MASK}@", line))
