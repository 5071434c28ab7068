# SPDX-License-Identifier: Apache-2.0
"""rules.py: the kernel takes the table as it is written, and means by it what we mean."""

import re
import subprocess
from collections.abc import Sequence

import pytest

from cloud_toa.doctor.table import Way, choose
from cloud_toa.errors import ToaError
from cloud_toa.isolation import run
from cloud_toa.nfqueue import rules
from cloud_toa.nfqueue.rules import Queues
from cloud_toa.origins import Origins

MTUS = {"lo": 65536, "eth0": 1500}
MANY = [f"10.{i}.{j}.0/24" for i in range(20) for j in range(20)]
MANY_PORTS = [f"10.{i}.{j}.1:{port}" for i in range(15) for j in range(15) for port in (80, 443)]
MANY_V6 = [f"[2001:db8:{i:x}::]/48:443" for i in range(400)]

ORIGINS: dict[str, Sequence[str]] = {
    "any": ["any"],
    "v4": ["192.0.2.0/24", "192.0.3.7"],
    "v4 with a port": ["192.0.2.0/24:443", "192.0.3.7:80"],
    "v6": ["2001:db8::/32", "2001:db9::7"],
    "v6 with a port": ["[2001:db8::]/32:443", "[2001:db9::7]:80"],
    "both": ["192.0.2.7", "2001:db8::7", "192.0.2.8:80", "[2001:db8::8]:80"],
    "a port of an address with every port": ["192.0.2.7", "192.0.2.7:80"],
    "overlapping on different ports": ["10.0.0.0/8:80", "10.1.0.0/16:443", "10.1.1.0/24"],
    "nested": ["10.0.0.0/8", "10.1.0.0/16", "10.1.1.1", "10.0.0.0/9", "10.255.255.255"],
    "nested with a port": ["10.0.0.0/8:80", "10.1.0.0/16:80", "10.1.1.1:80", "10.0.0.0:80"],
    "nested v6": ["2001:db8::/32", "2001:db8:1::/48", "2001:db8::1"],
    "nested v6 with a port": ["[2001:db8::]/32:80", "[2001:db8:1::]/48:80", "[2001:db8::1]:80"],
    "adjacent": ["10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/23", "10.0.4.0", "10.0.4.1"],
    "adjacent with a port": ["10.0.0.0/24:80", "10.0.1.0/24:80", "10.0.1.0/24:81"],
    "halves of the whole": ["0.0.0.0/1", "128.0.0.0/1", "4000::/2", "8000::/1"],
    "the same twice": ["10.0.0.1", "10.0.0.1/32", "::ffff:10.0.0.1"],
    "hundreds": MANY,
    "hundreds with ports": MANY_PORTS,
    "hundreds of both": [*MANY, *MANY_PORTS, *MANY_V6],
}


def nft(text: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["nft", *arguments, "-f", "-"], input=text, capture_output=True, text=True, check=False
    )


def accepted(text: str) -> None:
    for arguments in ([], ["--check"], []):
        done = nft(text, *arguments)
        assert (done.returncode, done.stderr) == (0, "")


def elements(name: str) -> set[str]:
    """What a set of ours holds, in nft's words."""
    listed = run("nft", "list", "set", *rules.TABLE.split(), name)
    found = re.search(r"elements = \{([^}]*)\}", listed)
    return {element.strip() for element in found[1].split(",")} if found else set()


@pytest.mark.usefixtures("network")
@pytest.mark.parametrize("control", [False, True], ids=["", "control"])
@pytest.mark.parametrize("origins", ORIGINS.values(), ids=ORIGINS)
def test_the_kernel_takes_the_table(origins: Sequence[str], control: bool) -> None:
    accepted(rules.table(Origins.parse(origins), control, MTUS, "", others=True))
    assert run("nft", "list", "tables") == f"table {rules.TABLE}\n"


@pytest.mark.usefixtures("network")
def test_the_sets_hold_the_outermost_destinations() -> None:
    origins = [
        *ORIGINS["nested"],
        *ORIGINS["nested v6 with a port"],
        "192.0.2.7:80",
        "192.0.2.7:81",
        "192.0.3.7",
        "[2001:db9::7]:80",
    ]
    accepted(rules.table(Origins.parse(origins), False, MTUS, "", others=True))
    assert elements("origins_ipv4") == {"10.0.0.0/8", "192.0.3.7"}
    assert elements("origins_ipv6_port") == {"2001:db8::/32 . 80", "2001:db9::7 . 80"}
    assert elements("origins_ipv4_port") == {"192.0.2.7 . 80", "192.0.2.7 . 81"}


@pytest.mark.usefixtures("network")
def test_adjacent_destinations_stay_whole() -> None:
    accepted(rules.table(Origins.parse(ORIGINS["adjacent"]), False, MTUS, "", others=True))
    # Whether neighbours are merged is for nft to say; every address is in, and no other.
    for address, inside in (
        ("10.0.0.0", True), ("10.0.1.255", True), ("10.0.3.255", True), ("10.0.4.0", True),
        ("10.0.4.1", True), ("10.0.4.2", False), ("9.255.255.255", False),
    ):  # fmt: skip
        done = subprocess.run(
            ["nft", "get", "element", *rules.TABLE.split(), "origins_ipv4", f"{{ {address} }}"],
            capture_output=True,
            check=False,
        )
        assert (done.returncode == 0) == inside


@pytest.mark.usefixtures("network")
def test_in_place_of_another_of_ours() -> None:
    for origins in ORIGINS.values():
        accepted(rules.table(Origins.parse(origins), True, MTUS, "", others=True))
    accepted(rules.delete())
    assert run("nft", "list", "ruleset") == ""


def test_other_tables_are_not_named() -> None:
    for control in (False, True):
        text = rules.table(Origins.parse(["any"]), control, MTUS, str(Queues(1, 4)), others=True)
        assert set(re.findall(r"^\s*(?:delete |add )?table (.*?)(?: \{)?$", text, re.M)) == {
            rules.TABLE
        }


@pytest.mark.parametrize(
    ("queues", "written"),
    [
        (Queues(1, 12), "queue flags bypass,fanout to 1-12"),
        (Queues(0, 65535), "queue flags bypass,fanout to 0-65535"),
        (Queues(7, 7), "queue flags bypass to 7"),
    ],
)
@pytest.mark.usefixtures("network")
def test_the_queue_statement(queues: Queues, written: str) -> None:
    text = rules.table(Origins.parse(["any"]), False, MTUS, str(queues), others=True)
    assert text.count(f"    {written}\n") == 1
    if choose() is Way.NFT:
        accepted(text)
    else:
        # Only the kernel's lack of it is complained of, not the language.
        said = nft(text).stderr
        assert written in said
        assert "syntax" not in said


@pytest.mark.usefixtures("network")
@pytest.mark.parametrize("family", [4, 6])
def test_the_policy_rule_and_the_route(family: int) -> None:
    before = _routing(family)
    added = rules.policy_rule(family, "add"), rules.route(family)
    for arguments in added:
        run("ip", *arguments.split())
    shown = run("ip", *rules.policy_rule(family, "show").split())
    assert shown == "1802:\tfrom all fwmark 0x70a00000/0xffff0000 lookup 1802\n"
    assert run("ip", *rules.our_routes(family, "show").split()).startswith("local default dev lo")
    # Twice is refused: neither takes the place of what is there.
    for arguments in added:
        with pytest.raises(ToaError, match="File exists"):
            run("ip", *arguments.split())
    run("ip", *rules.policy_rule(family, "del").split())
    run("ip", *rules.our_routes(family, "flush").split())
    assert _routing(family) == before


def _routing(family: int) -> tuple[str, str]:
    return run("ip", f"-{family}", "rule"), run(*f"ip -{family} route show table all".split())
