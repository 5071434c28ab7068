# SPDX-License-Identifier: Apache-2.0
"""The example of run.toml says the truth about every option; systemd takes the units."""

import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from cloud_toa.node import options
from cloud_toa.node.settings import RunSettings

PACKAGING = Path(__file__).parents[1] / "packaging"
KMOD = Path(__file__).parents[1] / "kmod"
EXAMPLE = PACKAGING / "run.toml"
QUICK_TEST = PACKAGING / "systemd/cloud-toa-node.service.d/quick-test.conf"
UNITS = sorted((PACKAGING / "systemd").glob("*.service"))
# Commented out, they are examples; the other options in comments show their defaults.
EXAMPLES = {"cgroup", "compat", "max_queue_id", "metrics", "sock", "sock_group"}


def read(text: str, place: Path) -> dict[str, str | list[str]]:
    place.write_text(text)
    return dict(options.from_file(place))


def everything(place: Path) -> dict[str, str | list[str]]:
    """The example with every option that is commented out."""
    return read(re.sub(r"(?m)^# (?=\w+ = )", "", EXAMPLE.read_text()), place)


def test_the_example_as_it_is(tmp_path: Path) -> None:
    settings = options.settings(read(EXAMPLE.read_text(), tmp_path / "run.toml"))
    assert settings.auto_setup
    assert str(settings.origins) == "192.0.2.0/24:443 [2001:db8:9::10]:443"
    plain = RunSettings(settings.origins, settings.queues, auto_setup=True)
    assert settings == plain


def test_the_example_names_every_option(tmp_path: Path) -> None:
    given = everything(tmp_path / "run.toml")
    assert set(given) == set(options._KNOWN)
    settings = options.settings(given)
    assert (settings.queues.first, settings.queues.last) == (1, 4)
    assert settings.metrics == ("127.0.0.1", 9100)


def test_what_is_commented_out_is_the_default(tmp_path: Path) -> None:
    as_it_is = read(EXAMPLE.read_text(), tmp_path / "run.toml")
    given = everything(tmp_path / "run.toml")
    defaults = {name: value for name, value in given.items() if name not in EXAMPLES}
    assert options.settings(defaults) == options.settings(as_it_is)
    assert not options.is_on(defaults, "debug")


def test_modprobe_takes_the_module_s_parameters() -> None:
    directory = str(PACKAGING / "modprobe.d")
    said = subprocess.run(
        ["modprobe", "-C", directory, "-c"], capture_output=True, text=True, check=True
    ).stdout
    (line,) = [line for line in said.splitlines() if line.startswith("options toa ")]
    assert line.removeprefix("options toa trust=") == "192.0.2.10,2001:db8:9::10"
    assert (PACKAGING / "modules-load.d/toa.conf").read_text().splitlines()[-1] == "toa"


def test_the_module_has_one_version() -> None:
    said = {
        name: re.findall(pattern, (KMOD / name).read_text())[0]
        for name, pattern in (
            ("toa.c", r'MODULE_VERSION\("(.*)"\)'),
            ("dkms.conf", r'PACKAGE_VERSION="(.*)"'),
            ("debian/changelog", r"^cloud-toa-dkms \((.*)\)"),
        )
    }
    assert set(said.values()) == {version("cloud-toa")}


def test_the_debian_package_has_the_version() -> None:
    (first, *_) = (PACKAGING / "debian/changelog").read_text().splitlines()
    assert first.startswith(f"cloud-toa ({version('cloud-toa')}) ")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_the_unit_may_do_little(unit: Path, tmp_path: Path) -> None:
    """The units are run in tests/vm."""
    # Without what is beside it.
    assert_rated(Path(shutil.copy(unit, tmp_path)), 30)


def test_the_quick_test_opens_no_more_than_it_needs() -> None:
    assert list((PACKAGING / "systemd").rglob("*.d/*")) == [QUICK_TEST]
    assert_rated(PACKAGING / "systemd/cloud-toa-node.service", 35)


def assert_rated(unit: Path, most: int) -> None:
    """As systemd rates it: 30 stands for 3.0, of 10."""
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={most}", str(unit)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "Overall exposure level" in done.stdout


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_takes_the_unit(unit: Path, tmp_path: Path) -> None:
    ours = Path(sys.executable).with_name("cloud-toa")
    installed = tmp_path / unit.name
    installed.write_text(unit.read_text().replace("/usr/local/bin/cloud-toa", str(ours)))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", str(installed)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("unit", "command", "example"),
    [
        ("cloud-toa-run", "run -config", "run.toml"),
        ("cloud-toa-edge-run", "edge run --config", "edge.toml"),
    ],
)
def test_the_unit_reads_the_example_where_it_is_copied_to(
    unit: str, command: str, example: str
) -> None:
    text = (PACKAGING / f"systemd/{unit}.service").read_text()
    assert f"ExecStart=/usr/local/bin/cloud-toa {command} /etc/cloud-toa/{example}\n" in text
    assert f"mkdir -p /etc/cloud-toa && cp {example} /etc/cloud-toa/ " in text
