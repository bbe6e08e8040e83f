"""`schemas/` is what the types say, is valid in itself, and its examples are what the service takes and gives."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from service.adapters.kafka.topics import ALERTS_SPECS, SPECS
from service.domain.records import topic_name
from service.pipeline.decode import MAX_PREDICTION_BYTES
from service.wire import events
from service.wire.batch_event import decode_batch_event
from service.wire.dead_letter import dead_letter_headers, replay_mark, truncated
from service.wire.notification import Source, decode_notification
from service.wire.notification import dead_letter_headers as undelivered_headers
from service.wire.schemas import documents, field_texts, main
from service.wire.status import decode_status

SCHEMAS: Final = Path(__file__).parents[3] / "schemas"
DECODERS: Final[dict[str, Any]] = {
    "prediction.v1.json": events.decode_prediction,
    "actual.v1.json": events.decode_actual,
    "status.v1.json": decode_status,
    "monitoring-batch-event.v1.json": decode_batch_event,
    "notification.v1.json": decode_notification,
}
ASYNCAPI: Final = yaml.safe_load((SCHEMAS / "asyncapi.yaml").read_text(encoding="utf-8"))


def read(name: str) -> Any:
    return json.loads((SCHEMAS / name).read_text(encoding="utf-8"))


def validator(schema: Any) -> Draft202012Validator:
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)


# ------------------------------------------------------------------------------------------ the files


@pytest.mark.parametrize("name", documents())
def test_the_files_are_as_generated(name: str) -> None:
    found = (SCHEMAS / name).read_text(encoding="utf-8")
    assert found == documents()[name], "run: python -m service.wire.schemas schemas"


def test_generating_twice_gives_the_same() -> None:
    assert documents() == documents()


def test_check_tells_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "new"), "--check"]) == 1
    assert "prediction.v1.json" in capsys.readouterr().out
    assert main([str(tmp_path / "new")]) == 0
    assert main([str(tmp_path / "new"), "--check"]) == 0
    assert capsys.readouterr().out == ""

    changed = tmp_path / "new" / "actual.v1.json"
    changed.write_text(changed.read_text(encoding="utf-8").replace("ActualEvent", "Actual"), encoding="utf-8")
    assert main([str(tmp_path / "new"), "--check"]) == 1
    assert '-  "title": "Actual",\n+  "title": "ActualEvent",' in capsys.readouterr().out


# ---------------------------------------------------------------------------------------- JSON Schema


@pytest.mark.parametrize("name", DECODERS)
def test_a_schema_is_valid_draft_2020_12(name: str) -> None:
    schema = read(name)
    assert schema["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("name", DECODERS)
def test_its_examples_are_valid_and_decode(name: str) -> None:
    schema = read(name)
    assert schema["examples"]
    for example in schema["examples"]:
        validator(schema).validate(example)
        DECODERS[name](json.dumps(example).encode())


@pytest.mark.parametrize("name", DECODERS)
def test_every_field_is_described(name: str) -> None:
    schema = read(name)
    for part in (schema, *schema.get("$defs", {}).values()):
        assert part["description"]
        for field, rules in part["properties"].items():
            assert rules["description"].endswith("."), field


@pytest.mark.parametrize("name", DECODERS)
def test_unknown_fields_are_allowed(name: str) -> None:
    schema = read(name)
    for example in schema["examples"]:
        validator(schema).validate(example | {"fieldOfTomorrow": {"nested": [1]}})


def test_a_description_is_the_text_below_a_field() -> None:
    texts = field_texts(events.ActualEvent)
    assert texts["association_id"] == "The association ID of the prediction, written in the same way."


def test_a_broken_event_is_told_by_its_field() -> None:
    with pytest.raises(ValidationError) as refused:
        validator(read("actual.v1.json")).validate({"deploymentId": "d", "associationId": "", "actual": 1})
    assert list(refused.value.absolute_path) == ["associationId"]


def test_limits_are_those_of_the_pipeline() -> None:
    assert f"{MAX_PREDICTION_BYTES:,}" in read("prediction.v1.json")["properties"]["prediction"]["description"]


# ------------------------------------------------------------------------------------------- AsyncAPI


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"]
        for value in part.values():
            yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


def resolve(reference: str) -> Any:
    file, _, pointer = reference.partition("#")
    found = read(file.removeprefix("./")) if file else ASYNCAPI
    for step in pointer.split("/")[1:]:
        found = found[step]
    return found


def messages_of(role: str) -> list[Any]:
    return [resolve(message["$ref"]) for message in ASYNCAPI["channels"][role]["messages"].values()]


def test_its_references_resolve() -> None:
    found = set(references(ASYNCAPI))
    assert {f"./{name}" for name in DECODERS} <= found
    for reference in found:
        assert isinstance(resolve(reference), dict), reference


def test_its_channels_are_the_topics() -> None:
    assert ASYNCAPI["asyncapi"] == "3.0.0"
    specs = (*SPECS, *ALERTS_SPECS)
    addresses = {role: channel["address"] for role, channel in ASYNCAPI["channels"].items()}
    assert addresses == {spec.role: topic_name("monitoring", spec.role) for spec in specs}
    for spec in specs:
        kafka = ASYNCAPI["channels"][spec.role]["bindings"]["kafka"]
        assert kafka["topic"] == ASYNCAPI["channels"][spec.role]["address"]
        assert kafka["topicConfiguration"]["cleanup.policy"] == spec.policy.split(",")


def test_every_channel_has_an_operation_and_every_operation_a_channel() -> None:
    operations = ASYNCAPI["operations"].values()
    assert {operation["action"] for operation in operations} == {"send", "receive"}
    used = {operation["channel"]["$ref"] for operation in operations}
    assert used == {f"#/channels/{role}" for role in ASYNCAPI["channels"]}


def test_every_message_has_key_payload_and_examples() -> None:
    for role in ASYNCAPI["channels"]:
        for message in messages_of(role):
            assert message["bindings"]["kafka"]["key"]["description"]
            assert message["payload"]
            assert message["examples"]


def test_examples_of_messages_are_valid() -> None:
    for message in ASYNCAPI["components"]["messages"].values():
        payload = resolve(message["payload"]["$ref"]) if "$ref" in message["payload"] else message["payload"]
        headers = message.get("headers", {"type": "object"})
        Draft202012Validator.check_schema(headers)
        for example in message["examples"]:
            validator(payload).validate(example["payload"])
            validator(headers).validate(example.get("headers", {}))


def test_headers_of_dead_letters_are_those_that_are_sent() -> None:
    letter, mark = messages_of("dlq")
    _, note = truncated(b"x")
    sent = [*dead_letter_headers("monitoring.predictions.v1", 0, 42, "malformed", "no JSON", []), note]
    assert [name for name, _ in sent] == list(letter["headers"]["properties"])
    validator(letter["headers"]).validate({name: value.decode() for name, value in sent})
    value, headers = replay_mark([1, 2, 9])
    validator(mark["payload"]).validate(json.loads(value))
    validator(mark["headers"]).validate({name: content.decode() for name, content in headers})
    assert [name for name, _ in headers] == list(mark["headers"]["properties"])


def test_headers_of_what_was_not_delivered_are_those_that_are_sent() -> None:
    (undelivered,) = messages_of("alerts.dlq")
    sent = undelivered_headers(Source("t", 0, 1, 2), reason="refused", detail="HTTP 400", status=400, attempts=1)
    assert [name for name, _ in sent] == list(undelivered["headers"]["properties"])
    validator(undelivered["headers"]).validate({name: value.decode() for name, value in sent})
