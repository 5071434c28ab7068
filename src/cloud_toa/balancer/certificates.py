# SPDX-License-Identifier: Apache-2.0
"""Certificates, keys and authorities that services name, as HAProxy is given them.

It gets copies: it wants a certificate and its key in one file, and has no privilege to read
what others than root own. They are made once all are known to be good, so that what was
copied last is what it can be started with at any time. What settings of before named is kept
until others are in force, as a reload may fail.
"""

import os
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from cloud_toa.balancer.file_names import (
    authority_name,
    certificate_files,
    certificate_name,
    list_file,
)
from cloud_toa.balancer.render import frontends
from cloud_toa.balancer.settings import Service
from cloud_toa.errors import SeveralError, ToaError

Files = dict[str, bytes]
"""What HAProxy is given, by the name that `file_names` has for it."""


def put(files: Files, services: tuple[Service, ...], folder: Path) -> None:
    """Write these to ``folder``, where root alone may read; and lists of those of a port.

    Raises:
        ToaError: they can't be written.
    """
    listed = _lists(services, folder)
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        for name, text in files.items():
            _write(folder / name, text)
        for name, found in listed.items():
            _write(Path(name), "".join(f"{at}\n" for at in found).encode())
    except OSError as error:
        raise ToaError(f"{error.filename or folder}: {error.strerror}") from None


def keep(files: Files, services: tuple[Service, ...], folder: Path) -> None:
    """Take away what settings of before have left there, once these are in force.

    HAProxy's old workers have read theirs.

    Raises:
        ToaError: something can't be taken away.
    """
    named = {*files, *(Path(path).name for path in _lists(services, folder))}
    try:
        for path in list(folder.iterdir()) if folder.exists() else []:
            if path.name not in named:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise ToaError(f"{error.filename or folder}: {error.strerror}") from None


def _lists(services: tuple[Service, ...], folder: Path) -> dict[str, list[str]]:
    found = (certificate_files(members, folder) for members in frontends(services))
    return {list_file(each, folder): each for each in found if len(each) > 1}


def _write(path: Path, text: bytes) -> None:
    new = path.with_name("new")
    new.touch(mode=0o600)
    new.write_bytes(text)
    new.replace(path)


def read(services: tuple[Service, ...]) -> Files:
    """All that these services name.

    Raises:
        ToaError: files can't be read, or are not what they are named as; all of these.
    """
    wanted = {certificate_name(*pair): partial(_pair, *pair) for pair in pairs(services)}
    wanted |= {authority_name(path): partial(_authority, path) for path in _authorities(services)}
    files: Files = {}
    wrong: list[str] = []
    for name, read_one in wanted.items():
        try:
            files[name] = read_one()
        except ToaError as error:
            wrong += error.lines
    if wrong:
        raise SeveralError(dict.fromkeys(wrong))
    return files


def pairs(services: tuple[Service, ...]) -> Iterator[tuple[str, str | None]]:
    """Files of certificates; with that of the key, where it is another one."""
    for service in services:
        for each in service.tls.certificates if service.tls else ():
            yield each.certificate, each.key
        for origin in service.origin:
            tls = origin.verified
            if tls is not None and tls.certificate:
                yield tls.certificate, tls.key


def _authorities(services: tuple[Service, ...]) -> Iterator[str]:
    for service in services:
        if service.tls is not None and service.tls.client_ca:
            yield service.tls.client_ca
        for origin in service.origin:
            if origin.verified is not None and origin.verified.ca:
                yield origin.verified.ca


def _pair(certificate: str, key: str | None) -> bytes:
    text = _text(certificate)
    _has_certificate(text, certificate)
    if key is not None:
        text += b"\n" + _text(key)
    if b"PRIVATE KEY-----" not in text:
        raise ToaError(f"{key or certificate} has no key: name the file that has it as key")
    if b"ENCRYPTED" in text:
        raise ToaError(f"the key in {key or certificate} has a passphrase: take it off")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")  # what is too weak, HAProxy says by its own settings
    try:
        _load(text, context.load_cert_chain)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ToaError(f"{key or certificate} is not the key of {certificate}") from None
        raise ToaError(f"{certificate} with its key can't be used: {error}") from None
    return text


def _authority(path: str) -> bytes:
    text = _text(path)
    _has_certificate(text, path)
    try:
        _load(text, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations)
    except ssl.SSLError as error:
        raise ToaError(f"{path} can't be used: {error}") from None
    return text


def _has_certificate(text: bytes, path: str) -> None:
    if b"-----BEGIN CERTIFICATE-----" not in text:
        raise ToaError(f"{path} has no certificate: name a PEM file")


def _text(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ToaError(f"{path} can't be read: {error.strerror}") from None


def _load(text: bytes, load: Callable[[str], object]) -> None:
    """OpenSSL reads files alone; this one is in memory, as keys are no other file's matter."""
    with os.fdopen(os.memfd_create("certificate"), "wb") as file:
        file.write(text)
        file.flush()
        load(f"/proc/self/fd/{file.fileno()}")
