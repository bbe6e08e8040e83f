"""Reading a form with a file (`multipart/form-data`): the file goes to disk as it comes, and never beyond its limit.

It has no name on disk, so nothing of it is left, whatever happens to the request or to the process. Checks come in
their order: media type, size, syntax; what the fields mean is for the endpoint.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.api.core.bodies import BadBody, JsonBody, chunks_of, media_type
from service.api.core.deps import ApiDeps
from service.usecases.files import Spool, path_of

MEDIA_TYPE: Final = "multipart/form-data"
_MAX_FIELD_BYTES: Final = 1 << 20
_MAX_PARTS: Final = 20
_AROUND: Final = 4 << 20
"""Bytes that a body may have beyond its file: boundaries, headers, fields."""
_WRITE_AT: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """What came in: `path` is good until the request is over, for whoever opens it before then also longer."""

    name: str
    path: Path


@dataclass(slots=True)
class Form:
    """The parts of a form, by name; of a name that occurs twice the last one."""

    fields: dict[str, str] = field(default_factory=dict)
    files: dict[str, UploadedFile] = field(default_factory=dict)


class FormBody:
    """A dependency that gives the form in a body, or the JSON that may be sent `instead`.

    `parts` says what may be in the form, for the OpenAPI document.
    """

    def __init__(
        self, parts: dict[str, str], *, required: tuple[str, ...], instead: JsonBody[Any] | None = None
    ) -> None:
        self.parts = parts
        self.required = required
        self.instead = instead

    async def __call__(self, request: Request) -> AsyncIterator[Any]:
        """A `Form`, or what `instead` gives. One value, good until the answer is built."""
        if self.instead is not None and not is_form(request):
            yield await self.instead(request)
            return
        deps: ApiDeps = request.app.state.deps
        reading = _Reading(_boundary(request), deps.spool)
        try:
            yield await reading.form(request)
        finally:
            reading.close()

    def json_schema(self) -> dict[str, Any]:
        shown = {
            name: {"type": "string", "description": text} | ({"format": "binary"} if name == "file" else {})
            for name, text in self.parts.items()
        }
        return {"type": "object", "properties": shown, "required": list(self.required)}


def is_form(request: Request) -> bool:
    return media_type(request) == MEDIA_TYPE


def _boundary(request: Request) -> bytes:
    if not is_form(request):
        raise BadBody(415, f"The body must be sent as {MEDIA_TYPE}.")
    _, options = parse_options_header(request.headers["content-type"])
    if not options.get(b"boundary"):
        raise BadBody(400, "The media type of the body must name a boundary.")
    return options[b"boundary"]


class _Reading:
    """One body while it comes in. The parser calls back without waiting, so what is for disk is held for a moment."""

    def __init__(self, boundary: bytes, spool: Spool) -> None:
        self._spool = spool
        self._form = Form()
        self._open: list[IO[bytes]] = []
        self._parts = 0
        self._ended = False
        self._header_name = b""
        self._header_value = b""
        self._headers: dict[bytes, bytes] = {}
        self._name = ""
        self._file: IO[bytes] | None = None
        self._size = 0
        self._held = bytearray()
        with _telling_syntax():
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_part_begin,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": self._on_part_data,
                    "on_part_end": self._on_part_end,
                    "on_end": self._on_end,
                },
            )

    async def form(self, request: Request) -> Form:
        async for chunk in chunks_of(request, self._spool.max_bytes + _AROUND, self._too_large()):
            with _telling_syntax():
                self._parser.write(chunk)
            if self._file is not None and len(self._held) >= _WRITE_AT:
                await asyncio.to_thread(self._write)
        if not self._ended:
            raise BadBody(400, "The form ends before its last boundary.")
        for file in self._open:
            await asyncio.to_thread(file.flush)
        return self._form

    def close(self) -> None:
        for file in self._open:
            file.close()

    def _too_large(self) -> BadBody:
        return BadBody(413, f"A file must have at most {self._spool.max_bytes:,} bytes.")

    def _write(self) -> None:
        assert self._file is not None
        self._file.write(self._held)
        self._held.clear()

    def _on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise BadBody(400, f"A form must have at most {_MAX_PARTS} parts.")
        self._headers, self._size = {}, 0

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._header_name.lower()] = self._header_value
        self._header_name = self._header_value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if b"name" not in options:
            raise BadBody(400, "Each part of a form must have a name.")
        self._name = options[b"name"].decode("utf-8", "replace")
        self._file = None
        if b"filename" in options:
            self._file = self._spool.file()
            self._open.append(self._file)
            file_name = options[b"filename"].decode("utf-8", "replace")
            self._form.files[self._name] = UploadedFile(file_name, path_of(self._file))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._size += end - start
        if self._file is None and self._size > _MAX_FIELD_BYTES:
            raise BadBody(413, f"A field of a form must have at most {_MAX_FIELD_BYTES >> 20} MiB.")
        if self._size > self._spool.max_bytes:
            raise self._too_large()
        self._held += data[start:end]

    def _on_part_end(self) -> None:
        if self._file is not None:
            self._write()
            self._file = None
            return
        try:
            self._form.fields[self._name] = self._held.decode()
        except UnicodeDecodeError:
            raise BadBody(422, "Invalid field data.", {self._name[:128]: "Must be text in UTF-8."}) from None
        self._held.clear()

    def _on_end(self) -> None:
        self._ended = True


@contextmanager
def _telling_syntax() -> Iterator[None]:
    """Faults of the parser are those of the body."""
    try:
        yield
    except FormParserError as fault:
        raise BadBody(400, f"The body is no form: {str(fault)[:200]}.") from None
