# SPDX-License-Identifier: Apache-2.0
"""kmod.py: what it reads of the module, and what it says without one. tests/netns loads it."""

import re
from pathlib import Path

import pytest

from cloud_toa import foreign_modules, kmod
from cloud_toa.config import OriginSettings
from cloud_toa.errors import ToaError
from cloud_toa.foreign_modules import ForeignModule
from cloud_toa.option import IN_USE
from cloud_toa.trust import Trust

SETTINGS = OriginSettings(Trust.parse(["192.0.2.1"]))
SOURCE = Path(__file__).parents[1] / "kmod"


def test_stats_are_summed_by_the_names_of_the_ebpf_receiver() -> None:
    text = (
        "                                 CPU0         CPU1\n"
        "syn_recv_sock_toa      :            1            3\n"
        "syn_recv_sock_no_toa   :            0            2\n"
        "getname_toa_ok         :            2            4\n"
        "untrusted              :            5            0\n"
    )
    assert kmod.parse_stats(text) == {
        "found": 4, "absent": 2, "getname_toa_ok": 6, "untrusted": 5,
    }  # fmt: skip


def test_the_module_refuses_the_kinds_that_python_refuses() -> None:
    found = re.search(r"toa_kinds_in_use\[\] = \{([^}]*)\}", (SOURCE / "lists.h").read_text())
    assert found
    assert {int(number) for number in re.findall(r"\d+", found[1])} == set(IN_USE)


def test_without_a_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kmod, "SYS", tmp_path / "toa")
    assert not kmod.loaded()
    assert kmod.status() is None
    assert not kmod.detach()
    with pytest.raises(ToaError, match="make -C kmod"):
        kmod.attach(SETTINGS)


def test_a_list_that_the_kernel_would_cut(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kmod, "SYS", tmp_path / "toa")
    many = OriginSettings(Trust.parse([f"192.0.{each >> 8}.{each & 255}" for each in range(290)]))
    with pytest.raises(ToaError, match=r"trust is \d+ bytes as text, and toa.ko takes 4096"):
        kmod.attach(many)


def test_without_kmod(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kmod, "SYS", tmp_path / "toa")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToaError, match="modprobe is missing"):
        kmod.attach(SETTINGS)


def test_a_module_of_others_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = ForeignModule("tcp_toa", ("version 2.0.0",), ("socket option 4096",))
    (tmp_path / "toa").mkdir()
    monkeypatch.setattr(kmod, "SYS", tmp_path / "toa")
    monkeypatch.setattr(foreign_modules, "find", lambda *, ours: [other])
    assert kmod.loaded()
    assert kmod.status() is None
    with pytest.raises(
        ToaError, match=r"tcp_toa \(version 2.0.0\), which holds socket option 4096.* rmmod tcp_toa"
    ):
        kmod.attach(SETTINGS)
    assert not kmod.detach()


def test_counters_that_another_module_took_along(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "toa/parameters").mkdir(parents=True)
    (tmp_path / "toa/parameters/trust").write_text("192.0.2.1/32\n")
    monkeypatch.setattr(kmod, "SYS", tmp_path / "toa")
    monkeypatch.setattr(kmod, "STATS", tmp_path / "toa_stats")
    with pytest.raises(ToaError, match=r"toa_stats is gone.*rmmod toa, then attach again"):
        kmod.status()
