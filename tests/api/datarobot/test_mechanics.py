"""Slashes, tokens, errors, links: what holds for every operation."""

from datetime import timedelta

import httpx
import pytest

from service.api.core.origin import Origins
from service.api.core.slashes import FinalSlash
from service.domain.errors import Invalid
from service.usecases.access import Scope, revoke_token
from tests.api.datarobot.conftest import Api


@pytest.mark.parametrize("path", ["/projects/", "/projects", "/version/", "/version", "/version?a=b"])
async def test_check_01_both_forms_of_a_path_answer_without_a_redirect(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 200
    assert not answer.history


async def test_check_01_the_version_is_one_that_clients_connect_to(client: httpx.AsyncClient) -> None:
    answer = await client.get("/version/")
    assert answer.json() == {"major": 2, "minor": 33, "versionString": "2.33.0"}
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert "deprecation" not in answer.headers


@pytest.mark.parametrize("scheme", ["Bearer", "Token", "bearer", "TOKEN"])
async def test_check_02_both_schemes_are_known(api: Api, scheme: str) -> None:
    token = await api.token(scope=Scope.READ)
    async with api.client(None) as stranger:
        answer = await stranger.get("/version/", headers={"Authorization": f"{scheme} {token}"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Bearer nobody", "Basic eDp5", "nobody", "Bearer \u00e9"]
)
@pytest.mark.parametrize("path", ["/version/", "/nothing/here/", "/deployments/d/"])
async def test_a_stranger_learns_nothing(api: Api, header: str | None, path: str) -> None:
    async with api.client(None) as stranger:
        given = {} if header is None else {"Authorization": header.encode()}
        answer = await stranger.get(path, headers=given)  # type: ignore[arg-type]
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json() == {"message": "A valid token is needed.", "errors": {}}


async def test_a_token_opens_nothing_once_it_was_revoked(api: Api) -> None:
    token = await api.token()
    async with api.client(token) as client:
        assert (await client.get("/version/")).status_code == 200
        (known,) = await api.deps.access.tokens("alice")
        await revoke_token(api.deps.access, known.id)
        assert (await client.get("/version/")).status_code == 401


async def test_a_token_opens_nothing_once_it_has_expired(api: Api) -> None:
    token = await api.token(expires_at=api.deps.clock.now() + timedelta(milliseconds=1))
    async with api.client(token) as client:
        assert (await client.get("/version/")).status_code == 401


async def test_an_unknown_path_and_a_wrong_method(client: httpx.AsyncClient) -> None:
    unknown = await client.get("/nothing/")
    assert (unknown.status_code, unknown.json()["errors"]) == (404, {})
    wrong = await client.post("/version/")
    assert wrong.status_code == 405
    assert wrong.headers["allow"] == "GET"
    assert wrong.json()["message"]


async def test_the_document_is_open_to_everybody_and_names_what_is_served(api: Api) -> None:
    async with api.client(None) as stranger:
        document = (await stranger.get("/openapi.json")).json()
        docs = await stranger.get("/docs")
    assert document["openapi"].startswith("3.1")
    assert document["paths"]["/version/"]["get"]["operationId"] == "getVersion"
    assert document["components"]["schemas"]["Fault"]["required"] == ["message", "errors"]
    assert docs.status_code == 200
    assert "/api/v2/openapi.json" in docs.text


@pytest.mark.parametrize(
    ("proxies", "address", "headers", "origin"),
    [
        ("", "10.0.0.1", {}, "http://api.example:81"),
        ("", "10.0.0.1", {"X-Forwarded-Proto": "https"}, "http://api.example:81"),
        ("10.0.0.0/8", "10.0.0.1", {"X-Forwarded-Proto": "https"}, "https://api.example:81"),
        ("10.0.0.0/8", "10.0.0.1", {"X-Forwarded-Host": "m.example, x"}, "http://m.example"),
        ("10.0.0.0/8", "192.0.2.1", {"X-Forwarded-Host": "evil.example"}, "http://api.example:81"),
    ],
)
def test_whose_word_counts_for_the_origin(proxies: str, address: str, headers: dict[str, str], origin: str) -> None:
    from starlette.requests import Request

    from service.config import networks

    sent = [(name.lower().encode(), value.encode()) for name, value in {"Host": "api.example:81", **headers}.items()]
    scope = {
        "type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": sent, "scheme": "http",
        "server": ("0.0.0.0", 80), "client": (address, 1),
    }  # fmt: skip
    assert Origins(trusted_proxies=networks(proxies)).of(Request(scope)) == origin
    assert Origins(public_origin="https://m.example").of(Request(scope)) == "https://m.example"


async def test_only_paths_of_the_api_get_a_slash() -> None:
    seen = []

    async def app(scope: dict[str, object], _: object, __: object) -> None:
        seen.append((scope["path"], scope["raw_path"]))

    middleware = FinalSlash(app, ("/api/v2",), verbatim=("/api/v2/openapi.json",))  # type: ignore[arg-type]
    for path in ("/api/v2", "/api/v2/a", "/api/v2/a/", "/metrics", "/api/v21", "/api/v2/openapi.json"):
        await middleware({"type": "http", "path": path, "raw_path": path.encode()}, None, None)  # type: ignore[arg-type]
    assert [path for path, _ in seen] == [
        "/api/v2/", "/api/v2/a/", "/api/v2/a/", "/metrics", "/api/v21", "/api/v2/openapi.json",
    ]  # fmt: skip
    assert all(raw == str(path).encode() for path, raw in seen)


async def test_a_database_that_is_away_is_told_as_such(api: Api) -> None:
    token = await api.token()
    async with api.client(token) as client:
        await api.deps.access._pool.close()  # type: ignore[attr-defined]
        answer = await client.get("/version/")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["message"]


def test_the_fields_that_a_domain_error_names() -> None:
    assert Invalid("data.3.associationId: is required\nlabel: must be text: not a number").fields == {
        "data.3.associationId": "is required",
        "label": "must be text: not a number",
    }
    assert Invalid("nothing to change").fields == {}
