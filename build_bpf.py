# SPDX-License-Identifier: Apache-2.0
"""Build hook: compile the eBPF programs, so that users need libbpf.so.1 only."""

import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_PROGRAMS = Path("src/cloud_toa/bpf")
_FLAGS = ["-target", "bpf", "-O2", "-g", "-Wall", "-Wextra", "-Werror"]


class BpfBuildHook(BuildHookInterface[Any]):
    """Compiles every ``*.bpf.c`` to the ``*.bpf.o`` beside it, for wheels and editable installs."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Run clang.

        Raises:
            RuntimeError: clang or the headers are missing, or a program does not compile.
        """
        if self.target_name != "wheel":
            return
        clang = shutil.which("clang")
        if clang is None:
            raise RuntimeError("clang is missing: apt-get install clang libbpf-dev")
        # Debian keeps asm/ below the processor's name, which -target bpf does not look into.
        include = f"/usr/include/{sysconfig.get_config_var('MULTIARCH')}"
        for source in sorted(Path(self.root, _PROGRAMS).glob("*.bpf.c")):
            # clang puts its working directory into the debug information: keep it out of it.
            command = [clang, *_FLAGS, f"-I{include}", "-fdebug-compilation-dir=."]
            subprocess.run(
                [*command, "-c", source.name, "-o", f"{source.stem}.o"],
                cwd=source.parent,
                check=True,
            )
