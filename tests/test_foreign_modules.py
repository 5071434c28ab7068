# SPDX-License-Identifier: Apache-2.0
"""foreign_modules.py: who is taken for a TOA module. tests/netns loads some."""

from pathlib import Path

import pytest

from cloud_toa import foreign_modules
from cloud_toa.foreign_modules import ForeignModule

LOADED = ["nf_conntrack", "x9", "tun", "toa"]
SYMBOLS = [
    "ffffffffc0a00000 t tcp_v4_syn_recv_sock_toa\t[x9]\n",
    "0000000000000000 T toa_exit\t[toa]\n",
    "ffffffff81000000 T itoa\n",
    "ffffffffc0b00000 t stoat_open\t[tun]\n",
    "ffffffffc0b00000 d toa_table\t[tun]\n",
    "a line that is none: toa [tun]\n",
]


@pytest.mark.parametrize(
    ("loaded", "symbols", "ours", "expected"),
    [
        (LOADED, SYMBOLS, True, ["x9"]),
        (LOADED, SYMBOLS, False, ["x9", "toa"]),
        # Without symbols, by the published names alone.
        (LOADED, [], False, ["toa"]),
        (["vtoa", "tcp_toa", "toa_x"], [], True, ["vtoa", "tcp_toa"]),
        ([], SYMBOLS, False, []),
    ],
)
def test_receivers(loaded: list[str], symbols: list[str], ours: bool, expected: list[str]) -> None:
    assert foreign_modules.receivers(loaded, symbols, ours=ours) == expected


@pytest.mark.parametrize(
    ("module", "text", "command"),
    [
        (
            ForeignModule("tcp_toa", ("version 2", "by X"), ("a", "b")),
            "tcp_toa (version 2, by X), which holds a and b",
            "rmmod tcp_toa",
        ),
        (ForeignModule("toa"), "toa", "rmmod toa"),
        (ForeignModule(None, (), ("a",)), "something that no module tells of, which holds a",
         "lsmod"),
    ],
)  # fmt: skip
def test_text(module: ForeignModule, text: str, command: str) -> None:
    assert (str(module), module.command) == (text, command)


@pytest.mark.parametrize("modules", ["", "nf_conntrack 172032 1 nf_nat, Live 0x0\n", None])
def test_what_no_module_tells_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, modules: str | None
) -> None:
    """A vendor's kernel may have it built in, and take no modules at all."""
    if modules is not None:
        (tmp_path / "modules").write_text(modules)
    monkeypatch.setattr(foreign_modules, "_MODULES", tmp_path / "modules")
    monkeypatch.setattr(foreign_modules, "_PROC", (tmp_path / "not there", tmp_path))
    assert foreign_modules.find(ours=False) == []
    (tmp_path / "vtoa_stats").touch()
    (found,) = foreign_modules.find(ours=False)
    assert found == ForeignModule(None, (), ("/proc/net/vtoa_stats",))
    assert foreign_modules.find(ours=True) == []
