# SPDX-License-Identifier: Apache-2.0
"""Which settings an edge is to read: decided without an edge."""

import asyncio

import pytest

from cloud_toa.cluster.agent.source import ClusterSource
from cloud_toa.cluster.model.protocol import Applied, Settings
from cloud_toa.errors import ToaError
from cloud_toa.node.edge_services import FixedError
from tests.cluster.agent.playing import ONE, THREE, TWO, Play, Played


def test_those_of_the_disk_are_not_tried_twice(play: Play) -> None:
    """However soon a server says them: how they came into force is told as it was."""

    async def act(played: Played) -> None:
        played.apply(ONE)
        source = played.source = ClusterSource(played.kept, played._tell, played._start)
        assert played.name == "s1"
        source.want(ONE)
        source.applied("by a start")
        assert not source.changed.is_set()
        assert source.result == Applied(revision=1, wanted=1, how="by a start")

    play(act)


def test_those_of_the_disk_that_fail_are_tried_again(play: Play) -> None:
    async def act(played: Played) -> None:
        played.apply(ONE)
        source = played.source = ClusterSource(played.kept, played._tell, played._start)
        assert played.name == "s1"
        assert not source.failed(ToaError("no port"))
        source.want(ONE)
        assert source.changed.is_set()
        assert played.name == "s1"

    play(act)


def test_from_nothing(play: Play) -> None:
    async def act(played: Played) -> None:
        source = played.source
        assert not source.has_some
        source.want(Settings(revision=0, text=""))
        assert not source.has_some
        source.want(ONE)
        assert source.has_some
        assert source.changed.is_set()
        assert source.result == Applied(revision=0, wanted=1)
        assert played.name == "s1"
        source.applied("by a start")
        assert source.result == Applied(revision=1, wanted=1, how="by a start")
        assert played.kept.settings() == ONE

    play(act)


def test_refused_settings_are_tried_again_and_not_read_otherwise(play: Play) -> None:
    async def act(played: Played) -> None:
        source = played.source
        played.apply(ONE)
        source.want(TWO)
        assert played.name == "s2"
        source.refused(ToaError("a port is in use"))
        assert source.result == Applied(
            revision=1, wanted=2, error="a port is in use", how="by hand"
        )
        # A certificate was renewed: what is in force is read, and the error stands.
        assert played.name == "s1"
        source.applied("by a reload")
        assert source.result.error == "a port is in use"
        assert played.kept.settings() == ONE
        await asyncio.wait_for(source.changed.wait(), 10)
        assert played.name == "s2"
        source.applied("by a reload")
        assert source.result == Applied(revision=2, wanted=2, how="by a reload")

    play(act)


def test_what_was_meant_meanwhile(play: Play) -> None:
    """Newer settings come while others are applied."""

    async def act(played: Played) -> None:
        source = played.source
        source.want(ONE)
        assert played.name == "s1"
        source.want(TWO)
        source.applied("by a start")
        assert source.result == Applied(revision=1, wanted=2, how="by a start")
        assert source.changed.is_set()
        assert played.name == "s2"
        source.applied("by a reload")
        assert source.result.revision == 2

    play(act)


def test_newer_ones_come_while_others_are_refused(play: Play) -> None:
    """What was wrong with the former is not said of them, and they are read next."""

    async def act(played: Played) -> None:
        source = played.source
        played.apply(ONE)
        for error in (ToaError("a port is in use"), FixedError("toa.datapath can't change")):
            source.want(TWO)
            assert played.name == "s2"
            source.want(THREE)
            source.refused(error)
            assert source.result == Applied(revision=1, wanted=3, how="by hand")
            assert source.changed.is_set()
            assert played.starts == 0
            assert played.name == "s3"
            await asyncio.sleep(0.05)  # a retry would have come by now
            assert not source.changed.is_set()
        source.refused(ToaError("a file is missing"))
        assert source.result.error == "a file is missing"
        assert played.name == "s1"

    play(act)


def test_newer_ones_come_while_a_start_fails(play: Play) -> None:
    async def act(played: Played) -> None:
        source = played.source
        played.apply(ONE)
        source.want(TWO)
        assert played.name == "s2"
        source.refused(FixedError("toa.datapath can't change"))
        assert played.name == "s2"  # by the new edge
        source.want(THREE)
        assert source.failed(ToaError("nft is missing"))
        assert source.result == Applied(revision=1, wanted=3, how="by hand")
        assert played.name == "s3"
        source.applied("by a start")
        assert source.result == Applied(revision=3, wanted=3, how="by a start")

    play(act)


def test_newer_ones_come_while_the_first_start_fails(play: Play) -> None:
    async def act(played: Played) -> None:
        source = played.source
        source.want(ONE)
        assert played.name == "s1"
        source.want(TWO)
        assert source.failed(ToaError("a port is in use"))
        assert source.result == Applied(revision=0, wanted=2)
        assert played.name == "s2"
        assert not source.failed(ToaError("another port is in use"))
        assert source.result == Applied(revision=0, wanted=2, error="another port is in use")

    play(act)


def test_back_to_what_was_in_force_while_others_are_applied(play: Play) -> None:
    async def act(played: Played) -> None:
        source = played.source
        played.apply(ONE)
        source.want(TWO)
        assert played.name == "s2"
        source.want(ONE)
        source.applied("by a reload")
        assert source.result == Applied(revision=2, wanted=1, how="by a reload")
        assert source.changed.is_set()
        assert played.name == "s1"
        source.applied("by a reload")
        assert source.result == Applied(revision=1, wanted=1, how="by a reload")

    play(act)


def test_the_same_text_by_another_number(play: Play) -> None:
    async def act(played: Played) -> None:
        source = played.source
        played.apply(TWO)
        source.changed.clear()
        for number in (5, 1):
            source.want(Settings(revision=number, text=TWO.text))
            assert not source.changed.is_set()
            assert source.result.revision == source.result.wanted == number
        source.want(Settings(revision=0, text=""))
        assert source.result == Applied(revision=1, wanted=0, how="they are what was in force")
        assert not source.changed.is_set()

    play(act)


def test_back_to_what_is_in_force_after_a_refusal(play: Play) -> None:
    async def act(played: Played) -> None:
        source = played.source
        played.apply(ONE)
        source.want(TWO)
        assert played.name == "s2"
        source.refused(ToaError("no"))
        source.want(Settings(revision=3, text=ONE.text))
        assert source.result.revision == 3
        assert not source.result.error
        await asyncio.sleep(0.05)  # a retry would have come by now
        assert not source.changed.is_set()

    play(act)


def test_a_new_start_that_fails_is_not_tried_again(play: Play) -> None:
    async def act(played: Played) -> None:
        source = played.source
        played.apply(ONE)
        source.want(TWO)
        assert played.name == "s2"
        source.refused(FixedError("toa.datapath can't change"))
        assert played.starts == 1
        assert not source.result.error
        assert played.name == "s2"  # by the new edge
        assert source.failed(ToaError("nft is missing"))
        assert played.name == "s1"
        source.applied("by a start")
        assert source.result == Applied(
            revision=1, wanted=2, error="nft is missing", how="by a start"
        )
        await asyncio.sleep(0.05)  # a retry would have come by now
        assert not source.changed.is_set()
        source.try_again()
        assert played.name == "s2"

    play(act)


def test_a_start_by_what_was_in_force_that_fails(play: Play) -> None:
    async def act(played: Played) -> None:
        played.apply(ONE)
        source = ClusterSource(played.kept, played._tell, played._start)
        assert source.read().service[0].name == "s1"
        assert not source.failed(ToaError("a port is in use"))
        assert source.result == Applied(revision=0, wanted=1, error="a port is in use")
        await asyncio.wait_for(source.changed.wait(), 10)
        assert source.read().service[0].name == "s1"
        source.applied("by a start")
        assert source.result == Applied(revision=1, wanted=1, how="by a start")

    play(act)


def test_drained_alone(play: Play) -> None:
    async def act(played: Played) -> None:
        source = played.source
        played.apply(ONE)
        source.want(Settings(revision=1, text=ONE.text, drained=True))
        assert source.changed.is_set()
        assert source.drained
        assert played.name == "s1"
        source.applied("without a reload")
        kept = played.kept.settings()
        assert kept is not None
        assert kept.drained
        source.want(Settings(revision=0, text="", drained=False))
        assert not source.drained
        assert source.changed.is_set()

    play(act)


def test_a_disk_that_takes_nothing(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    """Settings are in force all the same, and it is said once."""

    async def act(played: Played) -> None:
        (played.kept.file.parent / "settings.toml.new").mkdir()
        for settings in (ONE, TWO):
            played.apply(settings)
            assert played.source.result.revision == settings.revision
        said = [each for each in caplog.messages if "can't be written" in each]
        assert len(said) == 1
        assert "after a start without a server, former settings hold" in said[0]

    play(act)
