"""Keys of the advisory locks: the same in every process and version, and bounded."""

from service.adapters.postgres.locks import BUCKETS, LockKey, LockSpace, batch_lock, batch_name_lock, deployment_lock


def test_keys_are_fixed() -> None:
    assert deployment_lock("flights") == LockKey(LockSpace.DEPLOYMENTS, 490)
    assert batch_lock("flights", "b1") == LockKey(LockSpace.BATCHES, 898)
    assert batch_name_lock("flights", "b1") == LockKey(LockSpace.BATCH_NAMES, 898)


def test_deployments_come_before_batches() -> None:
    assert sorted([batch_lock("a", "b"), deployment_lock("z")])[0].space is LockSpace.DEPLOYMENTS


def test_the_number_of_locks_is_bounded() -> None:
    assert all(0 <= batch_lock("d", str(i)).bucket < BUCKETS for i in range(5_000))
