# SPDX-License-Identifier: Apache-2.0
"""URLs of stores, right and wrong."""

import asyncio
from pathlib import Path

import pytest

from cloud_toa.cluster.store import etcd_url
from cloud_toa.cluster.store.opening import open_store
from cloud_toa.errors import ToaError


def refusal(url: str) -> str:
    async def opened() -> None:
        await (await open_store(url)).close()

    with pytest.raises(ToaError) as refused:
        asyncio.run(opened())
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_members_have_ports_and_addresses() -> None:
    address = etcd_url.read("etcd://h1,h2:1234,[2001:db8::1],[::1]:99,192.0.2.1/")
    assert address.members == [
        "http://h1:2379",
        "http://h2:1234",
        "http://[2001:db8::1]:2379",
        "http://[::1]:99",
        "http://192.0.2.1:2379",
    ]
    assert address.tls() is None


def test_tls_and_a_user_are_files() -> None:
    address = etcd_url.read("etcd://t%20a@h1?ca=/ca&cert=/cert&key=/key&password_file=/password")
    assert address == etcd_url.Address(
        members=["https://h1:2379"],
        user="t a",
        password_file=Path("/password"),
        ca=Path("/ca"),
        cert=Path("/cert"),
        key=Path("/key"),
    )


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("cluster.db", "a path is no store: name one such as"),
        ("/var/lib/cluster.db", "a path is no store"),
        ("redis://h1", "redis is no store"),
        ("sqlite:///", "names no file"),
        ("sqlite://cluster.db", "write its whole path behind three slashes"),
        ("sqlite:///tmp/a?mode=ro", "names no file"),
        ("sqlite:a", "names no file"),
        ("sqlite:///tmp/a#b", "names no file"),
        ("sqlite://[h/a", "names no file"),
        ("etcd:h1", "does not begin with etcd://"),
        ("etcd://[::1", "'[::1' is no member"),
        ("etcd://", "'' is no member"),
        ("etcd://h1,,h2", "'' is no member"),
        ("etcd://h1:0", "'h1:0' is no member"),
        ("etcd://h1:99999", "'h1:99999' is no member"),
        ("etcd://2001:db8::1", "is no member"),
        ("etcd://h_1/prefix", "behind the members come only ?options"),
        ("etcd://h1?cacert=/a", "cacert=/a in the store's URL: there are ca, cert, key"),
        ("etcd://h1?ca=a.pem", "the whole path of a file"),
        ("etcd://h1?cert=/a&key=/b", "cert= without ca="),
        ("etcd://h1?ca=/a&key=/b", "key= without cert="),
        ("etcd://toa@h1?ca=/a", "both user@ and password_file="),
        ("etcd://h1?password_file=/a", "both user@ and password_file="),
        ("etcd://toa@127.0.0.1,h1?password_file=/a", "would cross the network"),
        ("etcd://h1?ca=/none", "/none, which the store's URL names, can't be used: No such file"),
    ],
)
def test_what_is_wrong_is_named(url: str, words: str) -> None:
    assert words in refusal(url)


def test_a_password_is_not_shown() -> None:
    message = refusal("etcd://toa:hunter2@h1?ca=/a")
    assert "hunter2" not in message
    assert "password_file=" in message


def test_files_that_are_no_certificates_are_named(tmp_path: Path) -> None:
    (tmp_path / "ca").write_text("hello")
    assert f"{tmp_path}/ca, which the store's URL names" in refusal(f"etcd://h1?ca={tmp_path}/ca")


def test_no_file_is_made_where_one_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "cluster.db"
    with pytest.raises(ToaError, match=f"there is no {path}"):
        asyncio.run(open_store(f"sqlite://{path}", make=False))
    assert not path.exists()


def test_a_path_may_have_any_characters(tmp_path: Path) -> None:
    async def opened() -> None:
        await (await open_store(f"sqlite://{tmp_path}/a%20%3F%e7%8e%8b.db")).close()

    asyncio.run(opened())
    assert [file.name for file in tmp_path.iterdir()] == ["a ?王.db"]
