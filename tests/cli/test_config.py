# SPDX-License-Identifier: Apache-2.0
"""``cloud-toa config``: what is said of a file, with exit code 0 or 2."""

import json
import shutil
import tempfile
from pathlib import Path

import pytest

from cloud_toa.node import edge_file
from tests.balancer.haproxy import make_certificate
from tests.cli.command import Said, call, spawn

EXAMPLE = Path(__file__).parents[2] / "packaging" / "edge.toml"
SERVICE = """
[[service]]
name = "web"
listen = ["0.0.0.0:80"]
[[service.origin]]
address = "192.0.2.7"
"""


def test_good(tmp_path: Path) -> None:
    assert call("config", "check", str(EXAMPLE)) == Said(
        0, f"{EXAMPLE}: 1 service, 2 origins: good\n", ""
    )
    file = tmp_path / "edge.toml"
    file.write_text(SERVICE + SERVICE.replace("web", "api").replace(":80", ":81"))
    assert call("config", "check", str(file)).out == f"{file}: 2 services, 2 origins: good\n"
    file.write_text(SERVICE)
    assert call("config", "check", str(file)).out == f"{file}: 1 service, 1 origin: good\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            SERVICE.replace("name", "nmae"),
            ", line 3: unknown key 'nmae': did you mean 'name'?",
        ),
        (SERVICE + "backup = yes\n", ", line 7: backup = yes: Invalid value: "),
        (SERVICE + "port = 0\n", ", line 7: port = 0: write a number from 1 to 65535"),
    ],
)
def test_wrong(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "edge.toml"
    file.write_text(text)
    said = call("config", "check", str(file))
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(f"cloud-toa: {file}{message}")
    assert said.err.count("\n") == 1


def test_all_that_is_wrong(tmp_path: Path) -> None:
    """In the file, a line for each; and where the file is good, in what it names."""
    file = tmp_path / "edge.toml"
    file.write_text(SERVICE + "port = 0\nweight = -1\ncolour = 1\n")
    said = call("config", "check", str(file))
    assert (said.code, said.out) == (2, "")
    assert [line.split(": ")[1] for line in said.err.splitlines()] == [
        f"{file}, line {number}" for number in (7, 8, 9)
    ]
    tls = "protocol = 'tls'\ntls.client_ca = '/ca'\ntls.certificates = [{ certificate = '/one' }, "
    tls += "{ certificate = '/two' }]\n"
    log = f"[access_log]\nfile = '{tmp_path}'\n"
    text = SERVICE.replace("[[service.origin]]", tls + "[[service.origin]]") + log
    for program in ("haproxy", "/nonexistent/haproxy"):
        file.write_text(f"{text}[haproxy]\nprogram = '{program}'\n")
        said = call("config", "check", str(file))
        assert said.code == 2
        assert [line.split()[1] for line in said.err.splitlines()] == [
            *("/one", "/two", "/ca", "access_log.file")
        ]


def test_no_file(tmp_path: Path) -> None:
    said = call("config", "check", str(tmp_path / "none"))
    assert said == Said(
        2, "", f"cloud-toa: {tmp_path}/none can't be read: No such file or directory\n"
    )


def test_an_access_log_that_can_t_be_one(tmp_path: Path) -> None:
    """But /dev/stdout is not this process's."""
    file = tmp_path / "edge.toml"
    file.write_text(f"{SERVICE}[access_log]\nfile = '{tmp_path}'\n")
    said = call("config", "check", str(file))
    why = f"access_log.file {tmp_path} is a folder: name a file in it"
    assert said == Said(2, "", f"cloud-toa: {why}\n")
    file.write_text(f"{SERVICE}[access_log]\nfile = '/dev/stdout'\n")
    assert call("config", "check", str(file)).code == 0


TLS = """protocol = "tls"
tls.certificates = [{{ certificate = "{certificate}" }}]
tls.ciphers = "{ciphers}"
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for what is temporary; its path is longer than a socket's may be."""
    folder = tmp_path / ("temporary-" * 10)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_what_haproxy_refuses(tmp_path: Path, temporary: Path) -> None:
    """Nothing is left of the copies of keys that it is given for that."""
    certificate = tmp_path / "a.pem"
    make_certificate(certificate)
    file = tmp_path / "edge.toml"

    def check(ciphers: str, more: str = "") -> Said:
        tls = TLS.format(certificate=certificate, ciphers=ciphers)
        file.write_text(SERVICE.replace("[[service.origin]]", tls + "[[service.origin]]") + more)
        said = call("config", "check", str(file))
        assert list(temporary.iterdir()) == []
        return said

    said = check("NOPE")
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("cloud-toa: HAProxy refuses the configuration: ")
    assert "NOPE" in said.err
    good = f"{file}: 1 service, 1 origin: good"
    for more in ("", "[toa]\ndatapath = 'queue'\n", "[access_log]\nfile = '/dev/stdout'\n"):
        said = check("ECDHE+AESGCM", more)
        assert (said.code, said.out) == (0, f"{good}\n"), said.err
    said = check("NOPE", "[haproxy]\nprogram = '/nonexistent/haproxy'\n")
    why = "HAProxy's own check was left out: /nonexistent/haproxy is not installed"
    assert (said.code, said.out) == (0, f"{good} ({why})\n")


def test_it_needs_no_privilege() -> None:
    """Not for a transparent source, a port below 1024 or many connections either."""
    file = Path(tempfile.mkdtemp()) / "edge.toml"
    file.parent.chmod(0o755)
    try:
        file.write_text(f"{SERVICE}[haproxy]\nmax_connections = 100000\n")
        nobody = ("setpriv", "--reuid=65534", "--clear-groups", "--inh-caps=-all")
        few = ("prlimit", "--nofile=1024")
        said = spawn("config", "check", str(file), before=(*few, *nobody))
        assert said == Said(0, f"{file}: 1 service, 1 origin: good\n", "")
    finally:
        shutil.rmtree(file.parent)


@pytest.mark.parametrize("arguments", [[], ["check"], ["check", "a", "b"], ["schema", "a"], ["x"]])
def test_usage(arguments: list[str]) -> None:
    said = call("config", *arguments)
    assert (said.code, said.out) == (2, "")
    assert "--help" in said.err


def test_schema() -> None:
    said = call("config", "schema")
    assert (said.code, said.err) == (0, "")
    assert json.loads(said.out) == json.loads(json.dumps(edge_file.schema()))
