"""What is published: how large it is, where it goes, and what a refusal says."""

from service.domain.errors import Reason, Rejection
from service.domain.records import size_of, topic_name


def test_the_size_of_a_record_is_that_of_key_value_and_headers() -> None:
    assert size_of(b"key", b"value", [("name", b"content"), ("n", b"")]) == 3 + 5 + 4 + 7 + 1
    assert size_of(None, None, []) == 0
    assert size_of(b"k", None, [("name", b"c")]) == 1 + 4 + 1


def test_topics_are_named_by_prefix_role_and_version() -> None:
    assert topic_name("monitoring", "status") == "monitoring.status.v1"


def test_a_rejection_says_the_reason_and_the_rule() -> None:
    rejection = Rejection(Reason.BAD_TIMESTAMP, "timestamp: must lie in the years 1970 to 9999")
    assert (rejection.reason, rejection.detail) == (
        Reason.BAD_TIMESTAMP,
        "timestamp: must lie in the years 1970 to 9999",
    )
    assert str(rejection) == "bad_timestamp: timestamp: must lie in the years 1970 to 9999"
