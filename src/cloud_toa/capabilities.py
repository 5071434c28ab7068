# SPDX-License-Identifier: Apache-2.0
"""What this process may.

Sources: capabilities(7); linux/capability.h; proc_pid_status(5).
"""

from pathlib import Path

SYS_PTRACE = 1 << 19
SYS_ADMIN = 1 << 21


def effective() -> int:
    """This process's effective capabilities, a bit each."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return int(line.split()[1], 16)
