# SPDX-License-Identifier: Apache-2.0
"""IP networks as the tries of both datapaths hold them: 16 bytes, IPv4 as ::ffff:a.b.c.d.

Source: Documentation/bpf/map_lpm_trie.rst. A key opens with the number of its bits that
count, in host order; the address follows in network order.
"""

from ipaddress import IPv6Address, ip_network

from cloud_toa.networks import IPNetwork

_MAPPED = int(IPv6Address("::ffff:0:0"))


def pack(network: IPNetwork) -> tuple[int, bytes]:
    """A network's prefix length among 128 bits, and its address."""
    if network.version == 4:
        address = IPv6Address(_MAPPED | int(network.network_address))
        return network.prefixlen + 96, address.packed
    return network.prefixlen, network.network_address.packed


def unpack(length: int, address: bytes) -> IPNetwork:
    """The network of a prefix length and an address."""
    ip = IPv6Address(address)
    if ip.ipv4_mapped is not None and length >= 96:
        return ip_network(f"{ip.ipv4_mapped}/{length - 96}")
    return ip_network(f"{ip}/{length}")
