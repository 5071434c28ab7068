# SPDX-License-Identifier: Apache-2.0
"""What a node keeps on its disk."""

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_toa.cluster.agent.kept import Identity, Kept
from cloud_toa.cluster.model.protocol import Settings
from cloud_toa.errors import ToaError

SETTINGS = Settings(revision=7, text="metrics = '127.0.0.1:9100'\n", drained=True)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    kept = Kept(tmp_path / "a" / "node")
    yield kept
    kept.close()


def test_nothing_at_first(kept: Kept) -> None:
    assert kept.settings() is None
    assert kept.identity() is None


def test_what_was_kept_is_there_again(kept: Kept, tmp_path: Path) -> None:
    kept.keep_settings(SETTINGS)
    kept.keep_identity(Identity(token="node_1_x", from_file="a"))
    kept.close()
    again = Kept(tmp_path / "a" / "node")
    assert again.settings() == SETTINGS
    assert again.identity() == Identity(token="node_1_x", from_file="a")
    for file in (tmp_path / "a" / "node").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "a" / "node").stat().st_mode) == 0o700
    again.close()
    kept._lock = os.open("/dev/null", os.O_RDONLY)


def test_the_secret_of_a_join_token_stays(kept: Kept, tmp_path: Path) -> None:
    """Another token has another one."""
    secret = kept.join_secret("a")
    assert kept.join_secret("a") == secret
    other = kept.join_secret("b")
    assert other != secret
    assert len(secret) == len(other) == 43
    assert stat.S_IMODE((kept.file.parent / "joining.json").stat().st_mode) == 0o600


def test_one_agent_at_a_time(kept: Kept, tmp_path: Path) -> None:
    with pytest.raises(ToaError, match="another 'cloud-toa node' has"):
        Kept(tmp_path / "a" / "node")


def test_a_text_of_another_revision_counts_as_none(kept: Kept) -> None:
    """As after a crash between the two, or an operator's editor."""
    kept.keep_settings(SETTINGS)
    kept.file.write_text("resolve_interval = 5\n")
    assert kept.settings() == Settings(revision=0, text="resolve_interval = 5\n", drained=True)
    (kept.file.parent / "revision.json").write_text("{")
    assert kept.settings() == Settings(revision=0, text="resolve_interval = 5\n")
    kept.file.write_bytes(b"\xff")
    assert kept.settings() is None


def test_no_one_can_have_it_written_elsewhere(kept: Kept, tmp_path: Path) -> None:
    """A link in the place of the new file is not followed."""
    target = tmp_path / "target"
    target.write_text("precious")
    (kept.file.parent / "node.json.new").symlink_to(target)
    kept.keep_identity(Identity(token="node_1_x"))
    assert target.read_text() == "precious"


def test_a_full_disk(tmp_path: Path) -> None:
    """Said before a join token is used up, and nothing that was there is lost."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path], check=True)
    try:
        kept = Kept(tmp_path)
        kept.keep_settings(SETTINGS)
        with (
            pytest.raises(OSError, match="No space left"),
            (tmp_path / "ballast").open("wb") as file,
        ):
            file.write(bytes(1 << 20))
        with pytest.raises(ToaError, match="can't be written: No space left on device"):
            kept.see_room()
        with pytest.raises(ToaError, match="can't be written: No space left on device"):
            kept.keep_settings(Settings(revision=8, text="#" * 5000))
        assert kept.settings() == SETTINGS
        kept.close()
    finally:
        subprocess.run(["umount", tmp_path], check=True)
