# SPDX-License-Identifier: Apache-2.0
"""Another version of the package, as an upgrade finds it: a copy whose eBPF programs differ.

Programs that are the same are not exchanged, so each datapath's are compiled with one number
changed that matters to no connection of the benchmarks.
"""

import shutil
from pathlib import Path

import cloud_toa
from cloud_toa.bpf import edge, origin
from tests.bpf.kernel import variant

_CHANGES = (
    (edge.DATAPATH, "ctx->total_retrans > 1", "ctx->total_retrans > 2"),
    (origin.DATAPATH, "((5 << 16) + (18 << 8))", "((5 << 16) + (17 << 8))"),
)


def copy(folder: Path) -> Path:
    """Make it in ``folder``; answer what PYTHONPATH is to be."""
    place = folder / "another"
    package = place / "cloud_toa"
    shutil.copytree(
        Path(cloud_toa.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__")
    )
    for datapath, old, new in _CHANGES:
        source = folder / f"{datapath.name}-source"
        source.mkdir()
        shutil.copy(variant(datapath, source, old, new).object, package / "bpf")
    return place
