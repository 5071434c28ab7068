# SPDX-License-Identifier: Apache-2.0
"""Destinations as nftables' sets, and matches of packets to or from them. Pure.

Source: nft(8), SETS; Linux 5.6 (intervals in concatenations).
"""

from dataclasses import dataclass

from cloud_toa.origins import Destination, Origins


@dataclass(frozen=True)
class Group:
    """Destinations of one IP version, all with ports or all without."""

    version: int
    listed: tuple[Destination, ...]

    @property
    def name(self) -> str:
        """Its set's."""
        return f"origins_ipv{self.version}" + ("_port" if self.listed[0].port else "")

    def match(self, side: str) -> str:
        """Matches packets to them (``side`` is d) or from them (s)."""
        header, port = "ip" if self.version == 4 else "ip6", self.listed[0].port
        if len(self.listed) == 1:  # to compare is quicker than to look up
            match = f"{header} {side}addr {self.listed[0].network}"
            return f"{match} tcp {side}port {port}" if port else match
        return f"{header} {side}addr" + (f" . tcp {side}port" if port else "") + f" @{self.name}"

    def set(self) -> str:
        """The set that is matched. Single addresses alone are looked up by hash."""
        if len(self.listed) == 1:
            return ""
        port = self.listed[0].port
        single = all(each.network.num_addresses == 1 for each in self.listed)
        elements = ", ".join(
            str(each.network[0] if single else each.network) + (f" . {each.port}" if port else "")
            for each in self.listed
        )
        return f"""  set {self.name} {{
    type ipv{self.version}_addr{" . inet_service" if port else ""}
    {"" if single else "flags interval"}
    elements = {{ {elements} }}
  }}"""


def groups(origins: Origins) -> list[Group]:
    """They, in as few groups as nftables needs; none where every destination is meant."""
    outermost = _outermost(origins)
    found = (
        Group(version, tuple(each for each in outermost if _is(each, version, port)))
        for version in (4, 6)
        for port in (False, True)
    )
    return [group for group in found if group.listed]


def _is(destination: Destination, version: int, port: bool) -> bool:
    return destination.network.version == version and bool(destination.port) == port


def _outermost(origins: Origins) -> list[Destination]:
    """Without destinations that lie in others: the kernel refuses overlapping intervals."""
    return [
        inner
        for inner in origins.destinations
        if not any(
            outer is not inner and outer.port == inner.port and _within(inner, outer)
            for outer in origins.destinations
        )
    ]


def _within(inner: Destination, outer: Destination) -> bool:
    low, high = inner.network[0], inner.network[-1]
    return low in outer.network and high in outer.network
