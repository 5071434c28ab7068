# SPDX-License-Identifier: Apache-2.0
"""The Debian package of toa.ko: made, unpacked, and built by DKMS for Debian's kernels."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.vm.machine import KERNELS, KernelUnavailableError, kernel
from tests.vm.module import KMOD, headers

TOA_H = "src/cloud_toa/bpf/toa.h"


def run(command: list[str], place: Path) -> str:
    done = subprocess.run(
        command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the package installs."""
    place = tmp_path_factory.mktemp("package")
    shutil.copytree(KMOD, place / "kmod")
    (place / TOA_H).parent.mkdir(parents=True)
    shutil.copy(KMOD.parent / TOA_H, place / TOA_H)
    # -d: what is needed was installed by scripts/install, without all of build-essential.
    run(["dpkg-buildpackage", "-b", "-us", "-uc", "-d"], place / "kmod")
    (package,) = place.glob("*.deb")
    run(["dpkg-deb", "-x", str(package), "root"], place)
    return place / "root"


@pytest.mark.slow
@pytest.mark.parametrize("package", KERNELS)
def test_dkms_builds_it(unpacked: Path, tmp_path: Path, package: str) -> None:
    try:
        root = kernel(package)
    except KernelUnavailableError as error:
        # Debian's kernels are what is built for; another distribution has others.
        pytest.skip(str(error))
    (source,) = (unpacked / "usr/src").glob("toa-*")
    trees = ["--sourcetree", str(source.parent), "--dkmstree", str(tmp_path)]
    build = ["dkms", "build", "-m", "toa", "-v", source.name.removeprefix("toa-"), *trees]
    kdir = headers(root) / f"usr/src/linux-headers-{root.name}"
    said = run([*build, "-k", root.name, "--kernelsourcedir", str(kdir)], tmp_path)
    assert "bad exit status" not in said
    (module,) = tmp_path.glob(f"toa/*/{root.name}/*/module/toa.ko*")
    assert root.name in run(["modinfo", "-F", "vermagic", str(module)], tmp_path)
