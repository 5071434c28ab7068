# SPDX-License-Identifier: Apache-2.0
"""The receiver: what it answers to getsockopt() 4096 and 4097."""

import ctypes
import errno
import socket
from pathlib import Path

from cloud_toa.demo.lab import Lab
from tests.netns.raw_tcp import RawClient, Wire
from tests.netns.receiver import TOA, TOA6, TRUSTED, TRUSTED6, sources
from tests.netns.receivers import Receiver, by_both
from tests.netns.traffic import SERVER, SERVER6, listen


def getsockopt(conn: socket.socket, name: int, size: int) -> tuple[int, bytes]:
    """Errno and answer of getsockopt(IPPROTO_IP), as C programs see it."""
    value, length = ctypes.create_string_buffer(b"\xaa" * size, size), ctypes.c_uint32(size)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.getsockopt(conn.fileno(), 0, name, value, ctypes.byref(length)):
        return ctypes.get_errno(), b""
    return 0, value.raw[: length.value]


@by_both
def test_getsockopt_4097(wire: Wire, listener: socket.socket) -> None:
    for toa, family, size in ((TOA, socket.AF_INET, 16), (TOA6, socket.AF_INET6, 28)):
        for source, server in sources(trusted=True):
            RawClient(wire, source, server).open(ack=toa)
            with listener.accept()[0] as conn:
                code, answer = getsockopt(conn, 4097, 28)
                assert (code, len(answer)) == (0, size)
                assert int.from_bytes(answer[:2], "little") == family
                assert answer[2:4] == toa[2:4]
                assert toa[4:] in answer
                assert getsockopt(conn, 4097, size)[1] == answer
                assert getsockopt(conn, 4097, size - 1)[0] in (errno.EINVAL, errno.EFAULT)
    RawClient(wire, TRUSTED, SERVER).open()
    with listener.accept()[0] as conn:
        assert getsockopt(conn, 4097, 28) == (0, bytes(16))


@by_both
def test_getsockopt_4096_as_dpvs(wire: Wire, lab: Lab, servers: Path, receiving: Receiver) -> None:
    """Only for an IPv6 client of an AF_INET socket; errors are those of the published module."""
    receiving.receive(servers, trust=f"{TRUSTED} {TRUSTED6}")
    with listen(lab, servers, SERVER) as four, listen(lab, servers, SERVER6) as six:
        for listener, source, server, toa, expected in (
            (four, TRUSTED, SERVER, TOA6, 0),
            (four, TRUSTED, SERVER, TOA, errno.EFAULT),
            (four, TRUSTED, SERVER, b"", errno.EINVAL),
            (six, TRUSTED6, SERVER6, TOA6, errno.EFAULT),
            (six, TRUSTED6, SERVER6, b"", errno.EINVAL),
        ):
            RawClient(wire, source, server).open(ack=toa)
            with listener.accept()[0] as conn:
                code, answer = getsockopt(conn, 4096, 20)
                assert code == expected, (toa, listener)
                if code == 0:
                    assert answer[:18] == toa[4:] + toa[2:4]
                    assert getsockopt(conn, 4096, 17)[0] in (errno.EINVAL, errno.EFAULT)
            assert getsockopt(listener, 4096, 20)[0] == errno.ENOTCONN


def test_getsockopt_without_receiver(lab: Lab) -> None:
    with listen(lab, lab.cgroup("bare"), SERVER) as listener:
        for name in (4096, 4097):
            assert getsockopt(listener, name, 28)[0] == errno.ENOPROTOOPT
