# SPDX-License-Identifier: Apache-2.0
"""The same three hosts as for the tests of traffic."""

from tests.netns.conftest import balancers, lab, servers

__all__ = ["balancers", "lab", "servers"]
