"""The home of a key is where Java clients and aiokafka would send it."""

import numpy as np
from aiokafka.partitioner import murmur2 as reference
from hypothesis import given
from hypothesis import strategies as st

from service.domain.ids import murmur2, murmur2_many


@given(st.lists(st.binary(max_size=40), max_size=30))
def test_murmur2_is_that_of_the_clients(keys: list[bytes]) -> None:
    expected = [reference(key) & 0x7FFFFFFF for key in keys]
    assert murmur2_many(keys).tolist() == expected
    assert murmur2_many(keys).dtype == np.int64
    assert [murmur2(key) for key in keys] == expected
