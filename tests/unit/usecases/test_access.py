"""What a token opens."""

import pytest

from service.domain.errors import Forbidden
from service.usecases.access import Principal, Scope


def principal(scope: Scope, deployments: frozenset[str] | None = None) -> Principal:
    return Principal(
        user_id="u", username="alice", full_name="Alice", organisation="ours", scope=scope, deployments=deployments
    )


def test_it_sees_its_organisation_and_no_other() -> None:
    assert principal(Scope.READ).sees("ours", "d")
    assert not principal(Scope.ADMIN).sees("theirs", "d")


def test_confined_to_deployments_it_sees_no_other_even_as_admin() -> None:
    confined = principal(Scope.ADMIN, frozenset({"d"}))
    assert confined.sees("ours", "d")
    assert not confined.sees("ours", "e")
    assert not confined.sees("theirs", "d")
    with pytest.raises(Forbidden, match="confined"):
        confined.require_organisation()


@pytest.mark.parametrize(
    ("scope", "writes", "organises", "administers"),
    [(Scope.READ, False, False, False), (Scope.WRITE, True, True, False), (Scope.ADMIN, True, True, True)],
)
def test_scopes(scope: Scope, writes: bool, organises: bool, administers: bool) -> None:
    one = principal(scope)
    for allowed, require in (
        (writes, one.require_write), (organises, one.require_organisation), (administers, one.require_admin)
    ):  # fmt: skip
        if allowed:
            require()
        else:
            with pytest.raises(Forbidden):
                require()
    assert one.may_write is writes
