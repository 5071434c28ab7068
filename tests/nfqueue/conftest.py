# SPDX-License-Identifier: Apache-2.0
"""A network namespace for one test, in which this process is for as long."""

from collections.abc import Iterator
from itertools import count

import pytest

from cloud_toa.isolation import Namespace

_numbers = count()


@pytest.fixture
def network() -> Iterator[Namespace]:
    """An empty one with loopback, entered."""
    namespace = Namespace(f"nfqueue-{next(_numbers)}")
    with namespace.entered():
        yield namespace
    namespace.remove()
