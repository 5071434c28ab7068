# SPDX-License-Identifier: Apache-2.0
"""config.py: settings are right once they exist."""

import dataclasses

import pytest

from cloud_toa.config import EdgeSettings, OriginSettings, Where
from cloud_toa.errors import ToaError
from cloud_toa.option import KindError, Kinds
from cloud_toa.origins import EVERYWHERE
from cloud_toa.trust import Trust

NOWHERE = "no place for the option is given: write some of syn,ack,data"


@pytest.mark.parametrize(
    ("text", "where", "written"),
    [
        ("syn", Where.SYN, "syn"),
        ("ack", Where.ACK, "ack"),
        ("data", Where.DATA, "data"),
        ("syn,ack,data", Where.SYN | Where.ACK | Where.DATA, "syn,ack,data"),
        ("data,syn", Where.SYN | Where.DATA, "syn,data"),
        (" ACK , Syn,", Where.SYN | Where.ACK, "syn,ack"),
        ("syn,syn", Where.SYN, "syn"),
    ],
)
def test_where(text: str, where: Where, written: str) -> None:
    assert Where.parse(text) == where
    assert str(where) == written
    assert Where.parse(str(where)) == where


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", NOWHERE),
        (" , ", NOWHERE),
        ("fin", "'fin' is no place for the option: write some of syn,ack,data"),
        ("syn,fin", "'fin' is no place for the option: write some of syn,ack,data"),
        ("syn ack", "'syn ack' is no place for the option: write some of syn,ack,data"),
        ("7", "'7' is no place for the option: write some of syn,ack,data"),
    ],
)
def test_where_refused(text: str, message: str) -> None:
    with pytest.raises(ToaError) as refused:
        Where.parse(text)
    assert str(refused.value) == message


def test_defaults_are_those_of_the_design() -> None:
    edge = EdgeSettings()
    assert (edge.option_type_v4, edge.option_type_v6) == (254, 254)
    assert edge.where == Where.SYN | Where.ACK | Where.DATA
    assert edge.origins == EVERYWHERE
    assert not edge.control
    origin = OriginSettings(Trust.parse(["192.0.2.7"]))
    assert origin.kinds == Kinds((254,), (254,), ())
    assert not origin.save_syn
    assert not origin.chain


def test_a_chain_needs_edges_by_address() -> None:
    assert OriginSettings(Trust.parse(["192.0.2.7"]), chain=True).chain
    with pytest.raises(ToaError, match="--chain needs the edges by address"):
        OriginSettings(Trust.parse(["any"]), chain=True)


def test_values_are_as_the_bpf_program_has_them() -> None:
    assert [int(place) for place in Where] == [1, 2, 4]


@pytest.mark.parametrize("setting", ["option_type_v4", "option_type_v6"])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (256, "option kind 256 is out of range: a kind is one byte, 0 to 255"),
        (-1, "option kind -1 is out of range: a kind is one byte, 0 to 255"),
        (8, "option kind 8 is in use for Timestamps: choose one such as 254, 253 or 200"),
        (28, "option kind 28 is in use for User Timeout: choose one such as 254, 253 or 200"),
    ],
)
def test_edge_refuses_a_kind(setting: str, kind: int, message: str) -> None:
    with pytest.raises(KindError) as refused:
        EdgeSettings(**{setting: kind})  # type: ignore[arg-type]
    assert str(refused.value) == message


def test_an_origin_has_no_default_trust() -> None:
    with pytest.raises(TypeError, match="trust"):
        OriginSettings()  # type: ignore[call-arg]


def test_settings_do_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        EdgeSettings().option_type_v4 = 200  # type: ignore[misc]
