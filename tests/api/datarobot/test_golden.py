"""Golden pairs: every file of `golden/` is a talk with the API, step by step: what is asked, and what is answered.

    {"about": "…", "steps": [
      {"as": "reader", "ask": {"method": "GET", "path": "/deployments/", "body": {…}, "headers": {…}},
       "answer": {"status": 200, "headers": {…}, "body": {…}}}]}

`as` is one of `WHO`, `admin` where it is left out. Bodies are equal key by key; an object with the key `…` may hold
more. Of the headers only those that are named are compared. In texts of an answer stand `<id>` (24 hexadecimal
digits), `<instant>` and `<any>`; `<any>` alone is any value at all. A placeholder with a name, as in `<id:model>`, is
remembered under it, and `<model>` stands for what was found in everything that comes later.
"""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.usecases.access import Scope
from tests.api.datarobot.conftest import Api

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.json"))
MORE = "…"
WHO: dict[str, dict[str, Any]] = {
    "admin": {"username": "alice", "scope": Scope.ADMIN},
    "writer": {"username": "walter", "scope": Scope.WRITE},
    "reader": {"username": "rita", "scope": Scope.READ},
    "confined": {"username": "carl", "scope": Scope.WRITE, "deployments": ["somewhere-else"]},
    "foreigner": {"username": "fred", "scope": Scope.ADMIN, "organisation": "other"},
}
_KINDS = {
    "id": r"[0-9a-f]{24}",
    "instant": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z",
    "any": r".*",
}
_PLACEHOLDER = re.compile(r"<(?P<kind>[a-z]+)(?::(?P<name>[a-z]+))?>")


class Found(dict[str, str]):
    """What was remembered, by name."""

    def filled(self, value: Any) -> Any:
        """With what is remembered in the place of its name."""
        match value:
            case str():
                return _PLACEHOLDER.sub(lambda one: self.get(one["kind"], one[0]), value)
            case list():
                return [self.filled(one) for one in value]
            case dict():
                return {key: self.filled(one) for key, one in value.items()}
        return value

    def compare(self, expected: Any, there: Any, path: str) -> None:
        match expected:
            case "<any>":
                pass
            case str() if _PLACEHOLDER.search(expected):
                self._match(expected, there, path)
            case dict():
                assert isinstance(there, dict), f"{path}: {there!r} is no object"
                wanted = {key: one for key, one in expected.items() if key != MORE}
                keys = there.keys() & wanted.keys() if MORE in expected else there.keys()
                assert sorted(keys) == sorted(wanted), path
                for key, one in wanted.items():
                    self.compare(one, there[key], f"{path}.{key}")
            case list():
                assert isinstance(there, list) and len(there) == len(expected), f"{path}: {there!r}"
                for place, one in enumerate(expected):
                    self.compare(one, there[place], f"{path}.{place}")
            case _:
                assert (type(there), there) == (type(expected), expected), path

    def _match(self, expected: str, there: Any, path: str) -> None:
        expected = self.filled(expected)  # what was remembered in this very body
        names: list[str | None] = []
        pattern, end = "", 0
        for one in _PLACEHOLDER.finditer(expected):
            names.append(one["name"])
            pattern += f"{re.escape(expected[end : one.start()])}({_KINDS[one['kind']]})"
            end = one.end()
        found = re.fullmatch(pattern + re.escape(expected[end:]), there) if isinstance(there, str) else None
        assert found is not None, f"{path}: {there!r} is not {expected!r}"
        self.update({name: text for name, text in zip(names, found.groups(), strict=True) if name})


async def answer_to(api: Api, tokens: dict[str, str], who: str, asked: dict[str, Any]) -> httpx.Response:
    if who not in tokens:
        tokens[who] = await api.token(**WHO[who])
    async with api.client(tokens[who]) as client:
        body = {"json": asked["body"]} if "body" in asked else {}
        return await client.request(asked["method"], asked["path"], headers=asked.get("headers"), **body)


def steps_of(file: Path) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["steps"]
    return steps


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.stem)
async def test_the_talk_goes_as_it_is_written(api: Api, file: Path) -> None:
    found, tokens = Found(), dict[str, str]()
    for place, step in enumerate(steps_of(file)):
        asked, expected = found.filled(step["ask"]), found.filled(step["answer"])
        where = f"step {place}: {asked['method']} {asked['path']}"
        answer = await answer_to(api, tokens, step.get("as", "admin"), asked)
        assert answer.status_code == expected["status"], f"{where}: {answer.text}"
        for name, value in expected.get("headers", {}).items():
            found.compare(value, answer.headers[name], f"{where}: header {name}")
        if "body" in expected:
            found.compare(expected["body"], answer.json(), where)
