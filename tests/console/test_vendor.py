# SPDX-License-Identifier: Apache-2.0
"""Libraries of others are as their projects published them, with version and licence."""

import hashlib
import tomllib

import pytest

from cloud_toa.cluster.console.static import FOLDER

VENDOR = FOLDER / "vendor"
LISTED = tomllib.loads((VENDOR / "vendored.toml").read_text())["file"]


@pytest.mark.parametrize("file", LISTED, ids=lambda file: file["path"])
def test_a_library_is_as_it_was_published(file: dict[str, str]) -> None:
    content = (VENDOR / file["path"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == file["sha256"]
    assert (VENDOR / file["license_file"]).read_text().strip()
    assert file["version"] in file["source"]
    assert file["license"] in ("MIT", "0BSD")


def test_nothing_else_is_there() -> None:
    there = {str(path.relative_to(VENDOR)) for path in VENDOR.rglob("*") if path.is_file()}
    listed = {file[key] for file in LISTED for key in ("path", "license_file")}
    assert there == listed | {"vendored.toml"}
