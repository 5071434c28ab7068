# SPDX-License-Identifier: Apache-2.0
"""The sums of what nodes told a server: what a single node can't do to them."""

import time

import msgspec

from cloud_toa.cluster.model.protocol import Sample
from cloud_toa.cluster.model.samples import BUCKET, KEPT, SECONDS, Amounts, Totals
from cloud_toa.cluster.store import Put
from cloud_toa.cluster.store.limits import check

BEGIN = time.time() // BUCKET * BUCKET - BUCKET


def told(at: float, *names: str) -> Sample:
    rates = dict.fromkeys(names, 1.0)
    return Sample(time=at, connections=rates, bytes=rates, with_toa=1.0, without_toa=0.0)


def sums(put: Put) -> list[Amounts]:
    return list(msgspec.json.decode(put.value, type=dict[float, Amounts]).values())


def test_a_sum_that_was_let_go_of_is_not_kept_again() -> None:
    totals = Totals()
    totals.add([told(time.time() - KEPT - BUCKET - SECONDS, "")])
    (old,) = totals.changes()
    totals.again(old.key)
    totals.add([told(BEGIN, "")])
    (new,) = totals.changes()
    assert new.key != old.key
    assert totals.changes() == []


def test_invented_names_leave_a_sum_small_enough_to_be_kept() -> None:
    """Names for which there is no room are counted in the node's sum alone."""
    totals = Totals()
    totals.add([told(BEGIN, "", "web")])
    for slot in range(30):
        invented = (f"{slot}-{number}".rjust(64, "x") for number in range(1000))
        totals.add([told(BEGIN + slot * SECONDS, "", "web", *invented)])
    (put,) = totals.changes()
    check([put])
    first, *others = sums(put)
    assert (first.connections[""], first.connections["web"]) == (2 * SECONDS, 2 * SECONDS)
    assert all(each.connections["web"] == each.bytes["web"] == SECONDS for each in others)
    assert len(others) == 29


def test_the_services_of_a_large_cluster_have_room() -> None:
    totals = Totals()
    names = [f"service-{number}" for number in range(300)]
    totals.add(told(BEGIN + slot * SECONDS, "", *names) for slot in range(30))
    (put,) = totals.changes()
    assert all(set(each.connections) == {"", *names} for each in sums(put))
