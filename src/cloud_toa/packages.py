# SPDX-License-Identifier: Apache-2.0
"""What the datapaths need of the distributions' packages. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Package:
    """A package's names."""

    debian: str
    rhel: str

    def __str__(self) -> str:
        """The commands that install it, for the end of an error."""
        return (
            f"apt-get install {self.debian} (Debian, Ubuntu) "
            f"or dnf install {self.rhel} (RHEL, Rocky)"
        )


LIBBPF = Package("libbpf1", "libbpf")
LIBNETFILTER_QUEUE = Package("libnetfilter-queue1", "libnetfilter_queue")
NFT = Package("nftables", "nftables")
IP = Package("iproute2", "iproute")
HAPROXY = Package("haproxy", "haproxy")
