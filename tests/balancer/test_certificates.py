# SPDX-License-Identifier: Apache-2.0
"""certificates.py: what HAProxy finds, whom it can be read by, and that no two are mixed up."""

import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cloud_toa.balancer.certificates import keep, put, read
from cloud_toa.balancer.file_names import certificate_files, certificate_name, list_file
from cloud_toa.balancer.settings import Service
from cloud_toa.errors import ToaError
from tests.balancer.haproxy import make_certificate


def service(certificates: list[dict[str, str]], name: str = "web", **origin: Any) -> Service:
    data = {
        "name": name,
        "listen": ["0.0.0.0:443"],
        "origin": [{"address": "app.example", **origin}],
        "protocol": "tls",
        "tls": {"certificates": certificates},
        "server_names": [f"{name}.example"],
    }
    return msgspec.convert(data, Service)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with certificates ``a.pem`` and ``b.pem``, which have their keys as well."""
    folder = tmp_path_factory.mktemp("made")
    for name in "ab":
        make_certificate(folder / f"{name}.pem")
    return folder


def pair(made: Path, name: str, folder: Path, file: str | None = None) -> dict[str, str]:
    """A certificate and its key in two files."""
    whole = (made / f"{name}.pem").read_text()
    certificate, key = folder / f"{file or name}.crt", folder / f"{file or name}.key"
    certificate.parent.mkdir(exist_ok=True)
    end = "-----END CERTIFICATE-----\n"
    first, _, second = whole.partition(end)
    certificate.write_text(first + end)
    key.write_text(second)
    return {"certificate": str(certificate), "key": str(key)}


def put_all(services: tuple[Service, ...], folder: Path) -> None:
    put(read(services), services, folder)


def test_a_key_is_put_behind_its_certificate(made: Path, tmp_path: Path) -> None:
    web, own = pair(made, "a", tmp_path), pair(made, "b", tmp_path)
    folder = tmp_path / "folder"
    put_all((service([web], tls=own),), folder)
    for each in (web, own):
        text = (folder / certificate_name(each["certificate"], each["key"])).read_text()
        parts = [Path(each[name]).read_text() for name in ("certificate", "key")]
        assert text == "\n".join(parts)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(each.stat().st_mode) for each in folder.iterdir()} == {0o600}
    assert len(list(folder.iterdir())) == 2


def test_several_of_services_on_the_same_ports_are_in_a_list(made: Path, tmp_path: Path) -> None:
    first, second = {"certificate": str(made / "a.pem")}, pair(made, "b", tmp_path)
    services = [service([first]), service([second, first], "two")]
    folder = tmp_path / "folder"
    put_all(tuple(services), folder)
    files = certificate_files(services, folder)
    assert len(files) == 2
    assert Path(list_file(files, folder)).read_text().splitlines() == files
    assert Path(files[0]).read_text() == (made / "a.pem").read_text()


def test_what_is_not_named_is_taken_away(made: Path, tmp_path: Path) -> None:
    """A copy of a key is there for as long as settings that name it are in force."""
    web, own = pair(made, "a", tmp_path), pair(made, "b", tmp_path)
    both, one = (service([web, own], tls={"ca": web["certificate"]}),), (service([web]),)
    folder = tmp_path / "folder"
    put_all(both, folder)
    there = set(folder.iterdir())
    (folder / "new").write_text("half a key")
    keep(read(both), both, folder)
    assert set(folder.iterdir()) == there
    put_all(one, folder)
    assert set(folder.iterdir()) == there
    keep(read(one), one, folder)
    assert [each.name for each in folder.iterdir()] == [certificate_name(*web.values())]
    keep({}, (), tmp_path / "none")


@pytest.mark.parametrize(("one", "other"), [("x/a", "x%a"), ("a+", "a"), ("y" * 200, "y" * 201)])
def test_no_two_pairs_share_a_file(made: Path, tmp_path: Path, one: str, other: str) -> None:
    pairs = [pair(made, name, tmp_path, file) for name, file in (("a", one), ("b", other))]
    folder = tmp_path / "folder"
    put_all((service(pairs),), folder)
    first, second = (folder / certificate_name(each["certificate"], each["key"]) for each in pairs)
    assert first.read_text() != second.read_text()


def test_what_is_wrong_is_named(made: Path, tmp_path: Path) -> None:
    good, other = pair(made, "a", tmp_path), pair(made, "b", tmp_path)
    for wrong, said in (
        (good | {"key": f"{tmp_path}/none"}, f"{tmp_path}/none can't be read: No such file"),
        (good | {"key": other["key"]}, f"{other['key']} is not the key of {good['certificate']}"),
        ({"certificate": good["key"]}, f"{good['key']} has no certificate: name a PEM file"),
        ({"certificate": good["certificate"]}, f"{good['certificate']} has no key: name the file"),
    ):
        with pytest.raises(ToaError) as refused:
            read((service([wrong]),))
        assert str(refused.value).startswith(said)


def test_a_folder_that_can_t_be_written_to(made: Path, tmp_path: Path) -> None:
    web = service([pair(made, "a", tmp_path)])
    with pytest.raises(ToaError) as refused:
        put_all((web,), tmp_path / "a.crt" / "folder")
    assert str(refused.value) == f"{tmp_path}/a.crt/folder: Not a directory"
