# SPDX-License-Identifier: Apache-2.0
"""counters.py: each worker's own, in memory that outlives it."""

import mmap
import os
from collections.abc import Iterator

import pytest

from cloud_toa.nfqueue import counters
from cloud_toa.nfqueue.counters import NAMES, Row

WORKERS = 3
NOTHING = dict.fromkeys(NAMES, 0)


@pytest.fixture
def memory() -> Iterator[mmap.mmap]:
    with mmap.mmap(-1, counters.size(WORKERS)) as shared:
        yield shared


def test_all_begin_at_nothing(memory: mmap.mmap) -> None:
    assert [Row(memory, worker).read() for worker in range(WORKERS)] == [NOTHING] * WORKERS


def test_each_has_its_own(memory: mmap.mmap) -> None:
    Row(memory, 1).add((5, 4, 3, 2, 1, 7))
    Row(memory, 1).add((1, 0, 0, 0, 1, 1))
    assert Row(memory, 1).read() == {
        "packets": 6,
        "written": 4,
        "no_room": 3,
        "passed": 2,
        "errors": 2,
        "local": 8,
    }
    assert [Row(memory, worker).read() for worker in (0, 2)] == [NOTHING] * 2


def test_they_count_beyond_32_bits(memory: mmap.mmap) -> None:
    many = 1 << 40
    for _ in range(2):
        Row(memory, WORKERS - 1).add((many,) * len(NAMES))
    assert Row(memory, WORKERS - 1).read() == dict.fromkeys(NAMES, 2 * many)


def test_what_a_process_counted_outlives_it(memory: mmap.mmap) -> None:
    child = os.fork()
    if child == 0:
        Row(memory, 0).add((1,) * len(NAMES))
        os._exit(0)
    assert os.waitpid(child, 0) == (child, 0)
    assert Row(memory, 0).read() == dict.fromkeys(NAMES, 1)
