# SPDX-License-Identifier: Apache-2.0
"""An object file of eBPF programs and maps: opened, adjusted, then loaded into the kernel.

Source: libbpf 1.0 and later (``bpf/libbpf.h``).
"""

import errno
import os
from ctypes import byref, c_size_t
from pathlib import Path
from types import TracebackType
from typing import Self

from cloud_toa.bpf import library
from cloud_toa.bpf.libbpf import Fd
from cloud_toa.errors import ToaError


class LoadError(ToaError):
    """The kernel refused a program or a map; ``log`` is what libbpf and the verifier said."""

    def __init__(self, message: str, log: str) -> None:
        super().__init__(message)
        self.log = log


class Object:
    """An object file of programs and maps: opened, adjusted, then loaded.

    Raises:
        ToaError: libbpf.so.1 is missing, or the file is no BPF object.
    """

    def __init__(self, path: Path) -> None:
        self._lib = library.library()
        library.messages.clear()
        self._object = self._lib.bpf_object__open_file(os.fsencode(path), None)
        if not self._object:
            raise ToaError(
                f"{path} is not a BPF object that {library.NAME} can open: install again"
            )

    def close(self) -> None:
        """Free the object; programs and maps live on where something holds them."""
        if self._object:
            self._lib.bpf_object__close(self._object)
            self._object = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()

    def set_settings(self, value: bytes) -> None:
        """Fill .rodata, the programs' constants, before loading. Padded with zeros."""
        rodata = self._map(".rodata")
        size = c_size_t()
        self._lib.bpf_map__initial_value(rodata, byref(size))
        data = value.ljust(size.value, b"\0")
        library.check(self._lib.bpf_map__set_initial_value(rodata, data, len(data)))

    def set_max_entries(self, name: str, entries: int) -> None:
        """Have a map made with this many entries, before loading."""
        library.check(self._lib.bpf_map__set_max_entries(self._map(name), entries))

    def reuse_map(self, name: str, existing: Fd) -> None:
        """Take this existing map for the one of that name, before loading."""
        library.check(self._lib.bpf_map__reuse_fd(self._map(name), existing.number))

    def only(self, name: str) -> None:
        """Leave the other programs out, before loading."""
        program = None
        while program := self._lib.bpf_object__next_program(self._object, program):
            wanted = program == self._program(name)
            library.check(self._lib.bpf_program__set_autoload(program, wanted))

    def load(self) -> None:
        """Have the kernel verify and take the programs and maps.

        Raises:
            LoadError: it did not.
        """
        code = self._lib.bpf_object__load(self._object)
        if code:
            log = "".join(library.messages)
            if -code == errno.EPERM:
                raise LoadError(
                    "the kernel does not let this user load eBPF programs: "
                    "run as root with CAP_SYS_ADMIN (see cloud-toa doctor)",
                    log,
                )
            raise LoadError(
                f"kernel {os.uname().release} refused the eBPF programs "
                f"({os.strerror(-code)}): see cloud-toa doctor",
                log,
            )

    def program(self, name: str) -> Fd:
        """A loaded program."""
        return Fd(os.dup(self._lib.bpf_program__fd(self._program(name))))

    def map(self, name: str) -> Fd:
        """A loaded map."""
        return Fd(os.dup(self._lib.bpf_map__fd(self._map(name))))

    def map_sizes(self, name: str) -> tuple[int, int, int, int]:
        """Type, key size, value size and number of entries that the object wants of a map."""
        found = self._map(name)
        return (
            self._lib.bpf_map__type(found),
            self._lib.bpf_map__key_size(found),
            self._lib.bpf_map__value_size(found),
            self._lib.bpf_map__max_entries(found),
        )

    def _program(self, name: str) -> int:
        found = self._lib.bpf_object__find_program_by_name(self._object, name.encode())
        if not found:
            raise ToaError(f"no program {name!r} in the object: install again")
        return int(found)

    def _map(self, name: str) -> int:
        found = self._lib.bpf_object__find_map_by_name(self._object, name.encode())
        if not found:
            raise ToaError(f"no map {name!r} in the object: install again")
        return int(found)
