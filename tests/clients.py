# SPDX-License-Identifier: Apache-2.0
"""Clients that a TOA of the tests names."""

from ipaddress import IPv4Address, IPv6Address

from cloud_toa.option import Client

CLIENT_V4 = Client(IPv4Address("203.0.113.222"), 37709)
CLIENT_V6 = Client(IPv6Address("2001:db8::ec99:108d:db5b:5fab"), 52221)
