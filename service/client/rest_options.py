"""Where the service's API is, and how to be let in."""

import re
from typing import Final, Required, TypedDict
from urllib.parse import urlsplit


class RestOptions(TypedDict, total=False):
    """Arguments of `over_http`. `url` is the API's origin, such as https://hindsight.example.com."""

    url: Required[str]
    token: Required[str]
    ssl_cafile: str | None


_TOKEN: Final = re.compile(r"[!-~]+")


def checked_origin(options: RestOptions) -> str:
    """The origin. Raises `ValueError` with every rule that is broken."""
    problems = [f"{name}: no such option" for name in sorted(options.keys() - RestOptions.__annotations__.keys())]
    origin = _origin_of(options.get("url"))
    if origin is None:
        problems.append("url: must be http(s)://host[:port], without a path, a query or a name")
    token = options.get("token")
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        problems.append("token: must be text of visible ASCII characters")
    if problems or origin is None:
        raise ValueError("; ".join(problems))
    return origin


def _origin_of(url: object) -> str | None:
    if not isinstance(url, str):
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    bare = parts.path in ("", "/") and not parts.query and not parts.fragment and "@" not in parts.netloc
    fine = parts.scheme in ("http", "https") and parts.hostname and port != 0 and bare
    return f"{parts.scheme}://{parts.netloc}" if fine else None
