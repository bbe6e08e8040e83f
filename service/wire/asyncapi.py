"""The AsyncAPI 3 document of the topics: what their records hold, and who sends and who receives them.

Operations are seen from the service. Topics have the names of the default prefix.
"""

from collections.abc import Mapping
from typing import Any, Final

import yaml

from service.domain.errors import Reason
from service.domain.records import Topic, topic_name
from service.wire import dead_letter, notification, status
from service.wire.examples import (
    ACTUALS,
    BATCH_EVENTS,
    DEAD_LETTER_HEADERS,
    NOTIFICATIONS,
    PREDICTIONS,
    STATUSES,
    UNDELIVERED_HEADERS,
)

Part = dict[str, Any]

PREFIX: Final = "monitoring"
_DESCRIPTION: Final = """\
Predictions and actuals come in on two topics of equal partition count; what became of each record goes out on the
status topic. Values are JSON in UTF-8. CloudEvents 1.0 are recognised in binary mode (`ce_*` headers, which are not
read) and in structured mode (with `data` as JSON). Unknown fields are ignored, and a schema only ever gains optional
fields.

Producers key a record by its association ID (a composite ID by its compact JSON text) and use the default partitioner
of Java clients (murmur2). A record that arrives at another partition, or without a key, counts just as well, but takes
a detour through the rekey topic. Consumers read committed records only (`isolation.level=read_committed`).

`monitoring` is the default prefix of the topics.
"""


def _text(description: str, **rules: object) -> Part:
    return {"type": "string", "description": description, **rules}


_NUMBER: Final = {"pattern": "^[0-9]+$"}
_ROW_KEY: Final = _text("Deployment ID, `/`, row ID.")
_BATCH_KEY: Final = _text("Deployment ID, `/`, batch ID.")
_ASSOCIATION_KEY: Final = _text("The association ID; of a composite one its compact JSON text.")

_INPUT_HEADERS: Final[Part] = {
    status.HEADER_TRACE: _text("W3C trace context; the status carries it on."),
    status.HEADER_SUBMISSION: _text("The HTTP submission that brought the record."),
    status.HEADER_JOB: _text("The job that brought the record."),
    status.HEADER_ROW_NUMBER: _text(
        "Number of the row within its job or submission. With either it names a row that has no association ID.",
        **_NUMBER,
    ),
    status.HEADER_SKIP_DRIFT: _text("Whether the prediction is left out of drift.", enum=["true", "false"]),
}
_REKEY_HEADERS: Final[Part] = _INPUT_HEADERS | {
    status.HEADER_ORIGIN: _text(
        "Where the record first came in: topic, partition and offset. It counts once, however often it is forwarded.",
        pattern="^.+/[0-9]+/[0-9]+$",
    )
}
_STATUS_HEADERS: Final[Part] = {
    status.HEADER_STATE: _text(
        "The packed row as the state store holds it after the record, empty where there is none. Internal: the "
        "service restores its store from it."
    ),
    status.HEADER_VERSION: _text("Version of the ledger that the status belongs to.", **_NUMBER),
    status.HEADER_SOURCE: _text("Where the record first came in: topic, partition and offset."),
    status.HEADER_TRACE: _text("W3C trace context of the record, where it had one."),
}
_NO_KEY: Final[Part] = {"type": "null", "description": "None."}
_DEAD_LETTER_HEADERS: Final[Part] = {
    "__connect.errors.topic": _text("Topic at which the refused record first came in."),
    "__connect.errors.partition": _text("Its partition.", **_NUMBER),
    "__connect.errors.offset": _text("Its offset.", **_NUMBER),
    "__connect.errors.stage": _text("Who refused it.", const="hindsight"),
    "__connect.errors.exception.message": _text("The field and the rule that it breaks."),
    dead_letter.HEADER_REASON: _text(
        "Why it was refused. Further words may come.", examples=[str(reason) for reason in Reason]
    ),
    dead_letter.HEADER_DETAIL: _text("The field and the rule that it breaks."),
    dead_letter.HEADER_TRUNCATED: _text(
        "Only where the value was too large to be sent again: its length and xxh3 hash. The dead letter then holds its "
        "first 64 KiB.",
        pattern="^length=[0-9]+;xxh3_64=[0-9a-f]{16}$",
    ),
}


_UNDELIVERED_HEADERS: Final[Part] = {
    notification.HEADER_REASON: _text(
        "Why it was not delivered. Further words may come.", examples=["refused", "gave_up", "unreadable"]
    ),
    notification.HEADER_DETAIL: _text("The last answer of the receiver, or the field and the rule that it breaks."),
    notification.HEADER_SOURCE: _text("The event that it comes from: topic, partition and offset."),
    notification.HEADER_ATTEMPTS: _text("How often it was sent.", **_NUMBER),
    notification.HEADER_STATUS: _text("HTTP status of the last answer; none where nobody answered.", **_NUMBER),
}


def asyncapi_document() -> Part:
    """The whole document, as plain data."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Hindsight",
            "version": "1.0.0",
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {
            Topic.PREDICTIONS: _channel(Topic.PREDICTIONS, "Predictions, in.", "delete", "prediction"),
            Topic.ACTUALS: _channel(Topic.ACTUALS, "Actuals, in.", "delete", "actual"),
            Topic.REKEY: _channel(
                Topic.REKEY,
                "Internal: records that came to another partition than that of their association ID, on their way "
                "there. Key, value, headers and timestamp are unchanged.",
                "delete",
                "forwardedPrediction",
                "forwardedActual",
            ),
            Topic.STATUS: _channel(
                Topic.STATUS,
                "One status per record that decodes and whose deployment exists, and per change in time. The Kafka "
                "timestamp is the time of processing. Also the changelog of the state store. A tombstone ends the life "
                "of a row.",
                "compact,delete",
                "rowStatus",
            ),
            Topic.BATCHES: _channel(
                Topic.BATCHES, "The life of each monitoring batch, out.", "compact,delete", "monitoringBatchEvent"
            ),
            Topic.DLQ: _channel(
                Topic.DLQ,
                "Refused records, with key, value, headers and timestamp as they came, and why in headers; and replay "
                "marks, which name letters that were sent again.",
                "delete",
                "deadLetter",
                "replayMark",
            ),
            Topic.ALERTS_CHANGELOG: _channel(
                Topic.ALERTS_CHANGELOG,
                "Internal: what `hindsight alerts` holds back, of which it restores its table.",
                "compact",
                "heldChange",
            ),
            Topic.ALERTS_DLQ: _channel(
                Topic.ALERTS_DLQ,
                "Notifications that no receiver took, and records of the topic of batches that are no events.",
                "delete",
                "undelivered",
            ),
        },
        "operations": {
            "receivePredictions": _operation("receive", Topic.PREDICTIONS, "Joined to actuals by association ID."),
            "receiveActuals": _operation("receive", Topic.ACTUALS, "Joined to predictions by association ID."),
            "forwardStrays": _operation("send", Topic.REKEY, "Sends a stray to the partition that is its home."),
            "receiveStrays": _operation("receive", Topic.REKEY, "Takes a stray in at its home."),
            "sendStatuses": _operation("send", Topic.STATUS, "Says what became of each record."),
            "restoreState": _operation("receive", Topic.STATUS, "Restores a state store from the statuses' headers."),
            "sendBatchEvents": _operation("send", Topic.BATCHES, "Says what happened to a monitoring batch."),
            "sendDeadLetters": _operation("send", Topic.DLQ, "Returns what can not be used."),
            "receiveBatchEvents": _operation("receive", Topic.BATCHES, "Told to a webhook by `hindsight alerts`."),
            "sendHeldChanges": _operation("send", Topic.ALERTS_CHANGELOG, "Remembers what is held back."),
            "restoreHeldChanges": _operation("receive", Topic.ALERTS_CHANGELOG, "Restores it."),
            "sendUndelivered": _operation("send", Topic.ALERTS_DLQ, "Keeps what could not be delivered."),
        },
        "components": {"messages": _messages() | _messages_of_alerts()},
    }


def _channel(role: str, description: str, cleanup: str, *messages: str) -> Part:
    name = topic_name(PREFIX, role)
    kafka = {"topic": name, "topicConfiguration": {"cleanup.policy": cleanup.split(",")}, "bindingVersion": "0.5.0"}
    return {
        "address": name,
        "description": description,
        "messages": {message: {"$ref": f"#/components/messages/{message}"} for message in messages},
        "bindings": {"kafka": kafka},
    }


def _operation(action: str, role: str, summary: str) -> Part:
    return {"action": action, "channel": {"$ref": f"#/channels/{role}"}, "summary": summary}


def _messages() -> Part:
    prediction, actual = {"$ref": "./prediction.v1.json"}, {"$ref": "./actual.v1.json"}
    origin = {status.HEADER_ORIGIN: "monitoring.predictions.v1/1/17"}
    return {
        "prediction": _message("A prediction", prediction, _ASSOCIATION_KEY, _INPUT_HEADERS, PREDICTIONS),
        "actual": _message("An actual", actual, _ASSOCIATION_KEY, _INPUT_HEADERS, ACTUALS),
        "forwardedPrediction": _message(
            "A prediction on its way home", prediction, _ASSOCIATION_KEY, _REKEY_HEADERS, PREDICTIONS[:1], origin
        ),
        "forwardedActual": _message(
            "An actual on its way home",
            actual,
            _ASSOCIATION_KEY,
            _REKEY_HEADERS,
            ACTUALS[:1],
            {status.HEADER_ORIGIN: "monitoring.actuals.v1/1/17"},
        ),  # fmt: skip
        "rowStatus": _message(
            "What became of a record", {"$ref": "./status.v1.json"}, _ROW_KEY, _STATUS_HEADERS, STATUSES
        ),
        "monitoringBatchEvent": _message(
            "A change of a monitoring batch", {"$ref": "./monitoring-batch-event.v1.json"}, _BATCH_KEY, {}, BATCH_EVENTS
        ),
        "deadLetter": _message(
            "A refused record",
            {"description": "The record's value, byte for byte: it may be anything."},
            _text("The record's key, byte for byte."),
            _DEAD_LETTER_HEADERS,
            [{"deploymentId": "late-arrivals", "prediction": "lat"}],
            DEAD_LETTER_HEADERS,
        ),
        "replayMark": _message(
            "Dead letters of this partition that were sent again",
            {
                "description": "First and last offset of each range.",
                "type": "array",
                "items": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
            },
            _NO_KEY,
            {dead_letter.HEADER_REPLAYED: _text("How many letters it names.", **_NUMBER)},
            [[[17, 42], [51, 51]]],
            {dead_letter.HEADER_REPLAYED: "27"},
        ),
    }


def _messages_of_alerts() -> Part:
    return {
        "heldChange": _message(
            "A thing that changed lately",
            {"description": "As `hindsight alerts` packs it. A tombstone: the thing is quiet.", "type": "object"},
            _text("JSON array that names the thing."),
            {},
            [{"told": "LOCKED", "held": 0, "source": ["monitoring.batches.v1", 3, 4711, 1767261845000]}],
        ),
        "undelivered": _message(
            "What could not be delivered",
            {"$ref": "./notification.v1.json"},
            _BATCH_KEY,
            _UNDELIVERED_HEADERS,
            NOTIFICATIONS,
            UNDELIVERED_HEADERS,
        ),
    }


def _message(
    title: str,
    payload: Part,
    key: Part,
    headers: Part,
    examples: list[object],
    example_headers: Mapping[str, object] | None = None,
) -> Part:
    shown = [
        {"payload": example} | ({"headers": dict(example_headers)} if example_headers else {}) for example in examples
    ]
    message: Part = {"title": title, "payload": payload, "examples": shown}
    if headers:
        message["headers"] = {"type": "object", "properties": headers}
    return message | {"bindings": {"kafka": {"key": key, "bindingVersion": "0.5.0"}}}


def asyncapi_text() -> str:
    """The document as YAML."""
    return yaml.dump(asyncapi_document(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


class _Dumper(yaml.SafeDumper):
    """Writes every part in full, and text of several lines as a block."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)
