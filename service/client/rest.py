"""The way over HTTP: `submitPredictionsFromJson` and `submitActualsFromJson` of the service's API.

A submission has a name (`Idempotency-Key`) that it keeps when it is repeated, so a request whose answer was lost is
not counted twice. The HTTP library's transport is used without its client: no redirects, no proxies of the
environment, no log line for each request.
"""

import re
import ssl
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx
import orjson

from service.adapters.clock import SystemClock
from service.client.complaints import Complaints
from service.client.rest_options import RestOptions, checked_origin
from service.client.rows import Outcome, Parcel, Row
from service.client.wording import RestGroup
from service.domain.records import Topic

_PATHS: Final = {Topic.PREDICTIONS: "predictionInputs/fromJSON/", Topic.ACTUALS: "actuals/fromJSON/"}
_TIMEOUTS: Final = {"connect": 10.0, "read": 60.0, "write": 60.0, "pool": 60.0}
_LONGEST_PAUSE_S: Final = 3_600.0
_MOST_FAULTS: Final = 8
"""So often a parcel may meet an error 500 of the server before it is given up: it may be the parcel that breaks it."""
_ROW_FIELD: Final = re.compile(r"data\.(\d+)(?:\..*)?", re.DOTALL)
_CAUSES: Final = {
    401: "the token is not known",
    403: "the token may not write to this deployment",
    404: "there is no such deployment, or the token may not see it",
}


class RestTransport:
    """Several requests at a time, of one deployment, model and batch one after the other."""

    at_once = 4

    def __init__(self, options: RestOptions, complaints: Complaints) -> None:
        self._origin = checked_origin(options)
        self._headers = {"Authorization": f"Bearer {options['token']}", "Content-Type": "application/json"}
        verify = ssl.create_default_context(cafile=options.get("ssl_cafile"))
        self._http = httpx.AsyncHTTPTransport(verify=verify, trust_env=False)
        self._complaints = complaints
        self._faults: dict[str, int] = {}
        """Errors 500 by name of a parcel that is to be sent again."""

    async def send(self, parcel: Parcel) -> Outcome:
        try:
            response = await self._post(parcel)
        except httpx.TransportError as error:
            text = f"{self._origin}: {type(error).__name__} {error!s:.200}; it is tried again"
            self._complaints.tell("waiting", text, rows=len(parcel.rows))
            return Outcome(again=(parcel,))
        return self._judged(parcel, response)

    async def close(self) -> None:
        await self._http.aclose()

    async def _post(self, parcel: Parcel) -> httpx.Response:
        group = parcel.rows[0].group
        assert isinstance(group, RestGroup)
        request = httpx.Request(
            "POST",
            f"{self._origin}/api/v2/deployments/{group.deployment_id}/{_PATHS[group.topic]}",
            headers=self._headers | {"Idempotency-Key": parcel.name},
            content=body(group, parcel.rows),
            extensions={"timeout": _TIMEOUTS},
        )
        response = await self._http.handle_async_request(request)
        try:
            await response.aread()
        finally:
            await response.aclose()
        return response

    def _judged(self, parcel: Parcel, response: httpx.Response) -> Outcome:
        judge = self._judges().get(response.status_code)
        if judge is not None:
            outcome = judge(parcel, response)
        elif response.is_success:
            outcome = Outcome(sent=len(parcel.rows))
        else:
            outcome = self._give_up(parcel, response)
        if parcel not in outcome.again:
            self._faults.pop(parcel.name, None)
        return outcome

    def _judges(self) -> Mapping[int, Callable[[Parcel, httpx.Response], Outcome]]:
        return {
            409: self._refused,
            413: self._too_large,
            422: self._partly_refused,
            429: self._later,
            500: self._broken,
            502: self._later,
            503: self._later,
            504: self._later,
        }

    def _later(self, parcel: Parcel, response: httpx.Response) -> Outcome:
        pause = retry_after_s(response)
        until = "it is tried again" if pause is None else f"it is tried again in {pause:.0f} s"
        self._tell("waiting", parcel, response, until)
        return Outcome(again=(parcel,), pause_s=pause or None)

    def _broken(self, parcel: Parcel, response: httpx.Response) -> Outcome:
        self._faults[parcel.name] = faults = self._faults.get(parcel.name, 0) + 1
        return self._later(parcel, response) if faults < _MOST_FAULTS else self._give_up(parcel, response)

    def _too_large(self, parcel: Parcel, response: httpx.Response) -> Outcome:
        half = len(parcel.rows) // 2
        if not half:
            return self._refused(parcel, response)
        return Outcome(again=(Parcel(parcel.rows[:half]), Parcel(parcel.rows[half:])), pause_s=0)

    def _partly_refused(self, parcel: Parcel, response: httpx.Response) -> Outcome:
        """The API takes all rows of a request or none: without those it names, the others may pass."""
        bad = rows_named(errors_of(response), len(parcel.rows))
        if not bad or len(bad) == len(parcel.rows):
            return self._refused(parcel, response)
        self._tell("refused by the service", parcel, response, "the others are sent again", rows=len(bad))
        others = [row for place, row in enumerate(parcel.rows) if place not in bad]
        return Outcome(refused=len(bad), again=(Parcel(others),), pause_s=0)

    def _refused(self, parcel: Parcel, response: httpx.Response) -> Outcome:
        self._tell("refused by the service", parcel, response, "these rows are not sent")
        return Outcome(refused=len(parcel.rows))

    def _give_up(self, parcel: Parcel, response: httpx.Response) -> Outcome:
        self._tell("given up", parcel, response, "these rows are not sent")
        return Outcome(failed=len(parcel.rows))

    def _tell(
        self, reason: str, parcel: Parcel, response: httpx.Response, consequence: str, *, rows: int | None = None
    ) -> None:
        group = parcel.rows[0].group
        assert isinstance(group, RestGroup)
        cause = _CAUSES.get(response.status_code) or _message_of(response)
        text = f"{self._origin}, deployment {group.deployment_id}, {group.topic}: {response.status_code}, {cause}"
        count = len(parcel.rows) if rows is None else rows
        self._complaints.tell(reason, f"{text}: {count:,} rows; {consequence}", rows=count)


def body(group: RestGroup, rows: Sequence[Row]) -> bytes:
    """The same bytes for the same rows."""
    common = {"modelId": group.model_id, "monitoringBatchId": group.batch_id}
    if group.topic == Topic.ACTUALS:
        common = {} if group.keep is None else {"keepActualsWithoutPredictions": group.keep}  # type: ignore[dict-item]
    said = {name: value for name, value in common.items() if value is not None}
    rest = b"," + orjson.dumps(said)[1:] if said else b"}"
    return b'{"data":[' + b",".join([row.value for row in rows]) + b"]" + rest


def rows_named(errors: Mapping[str, Any], rows: int) -> set[int]:
    """Places of the rows that are to blame; none where anything else is, too."""
    found = [_ROW_FIELD.fullmatch(name) for name in errors]
    places = {int(one[1]) for one in found if one}
    return places if all(found) and all(place < rows for place in places) else set()


def _json_of(response: httpx.Response) -> dict[str, Any]:
    try:
        told = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        return {}
    return told if isinstance(told, dict) else {}


def errors_of(response: httpx.Response) -> dict[str, Any]:
    errors = _json_of(response).get("errors")
    return errors if isinstance(errors, dict) else {}


def _message_of(response: httpx.Response) -> str:
    told = [f"{name}: {rule}" for name, rule in list(errors_of(response).items())[:3]]
    return "; ".join([str(_json_of(response).get("message", "no message")), *told])[:300]


def retry_after_s(response: httpx.Response) -> float | None:
    """What `Retry-After` asks for, seconds or a date, an hour at most."""
    told = response.headers.get("Retry-After", "")
    if told.isascii() and told.isdigit():
        return min(float(told[:9]), _LONGEST_PAUSE_S)
    try:
        at = parsedate_to_datetime(told)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return min(max((at - SystemClock().now()).total_seconds(), 0.0), _LONGEST_PAUSE_S)
