"""Identities: of deployments, models and batches (one alphabet), of rows, and the partition that is a row's home."""

import re
from collections.abc import Sequence
from typing import NewType

import numpy as np
from numpy.typing import NDArray

DeploymentId = NewType("DeploymentId", str)
ModelId = NewType("ModelId", str)
MonitoringBatchId = NewType("MonitoringBatchId", str)

_OBJECT_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
RESERVED_PREFIXES = ("job:", "submission:", "record:")
MAX_ASSOCIATION_ID = 128


def is_object_id(text: str) -> bool:
    """Whether `text` can name a deployment, a model or a monitoring batch."""
    return _OBJECT_ID.fullmatch(text) is not None and text not in (".", "..")


def is_association_id(text: str) -> bool:
    """Whether `text`, in its canonical form, can join a prediction to its actual."""
    return 1 <= len(text) <= MAX_ASSOCIATION_ID and not text.startswith(RESERVED_PREFIXES)


def are_association_ids(texts: Sequence[str]) -> bool:
    """Whether each of them is one. False only says: look at them one by one."""
    sizes = set(map(len, texts))
    joined = "\n".join(texts)
    return (
        min(sizes, default=1) >= 1
        and max(sizes, default=1) <= MAX_ASSOCIATION_ID
        and not any(prefix in joined for prefix in RESERVED_PREFIXES)
    )


def has_association_id(row_id: str) -> bool:
    """Whether a row ID is an association ID (else it is made of a job, a submission or a record)."""
    return not row_id.startswith(RESERVED_PREFIXES)


def record_row_id(topic: str, partition: int, offset: int) -> str:
    """Row ID of a record that came without any ID."""
    return f"record:{topic}:{partition}:{offset}"


def row_key(deployment_id: str, row_id: str) -> bytes:
    """Key of a row in the state store and on the status topic."""
    return f"{deployment_id}/{row_id}".encode()


def home_of(row_id: str, partitions: int) -> int | None:
    """The task, and the partition, where a row lives. None: a row without any ID is at home wherever it came in."""
    if row_id.startswith("record:"):
        return None
    return murmur2(row_id.encode()) % partitions


_M = np.uint32(0x5BD1E995)
_SEED = 0x9747B28C
_MASK = 0xFFFFFFFF


def murmur2(key: bytes) -> int:
    """The 31 bits that Java's default partitioner takes of a key: MurmurHash2, seed 0x9747b28c, sign bit cut off."""
    return int(murmur2_many([key])[0])


def murmur2_many(keys: Sequence[bytes]) -> NDArray[np.int64]:
    """`murmur2` of every key (n,), computed by columns over the keys of one length at a time."""
    hashes = np.empty(len(keys), dtype=np.int64)
    sizes = list(map(len, keys))
    lengths = np.array(sizes, dtype=np.int64)
    for length in set(sizes):
        places = np.flatnonzero(lengths == length)
        some = keys if len(places) == len(keys) else [keys[i] for i in places.tolist()]
        block = np.frombuffer(b"".join(some), dtype=np.uint8).reshape(len(some), length)
        hashes[places] = _murmur2_block(block)
    return hashes


def _murmur2_block(block: NDArray[np.uint8]) -> NDArray[np.uint32]:
    rows, length = block.shape
    whole = length // 4
    hashed = np.full(rows, (_SEED ^ length) & _MASK, dtype=np.uint32)
    words = np.ascontiguousarray(block[:, : whole * 4]).view("<u4")
    for column in range(whole):
        k = words[:, column] * _M
        k ^= k >> np.uint32(24)
        k *= _M
        hashed *= _M
        hashed ^= k
    if tail := length - whole * 4:
        for position in range(tail - 1, -1, -1):
            hashed ^= block[:, whole * 4 + position].astype(np.uint32) << np.uint32(8 * position)
        hashed *= _M
    hashed ^= hashed >> np.uint32(13)
    hashed *= _M
    hashed ^= hashed >> np.uint32(15)
    return hashed & np.uint32(0x7FFFFFFF)
