# SPDX-License-Identifier: Apache-2.0
"""Clients that the edge names, and the addresses it connects from."""

from ipaddress import ip_address

from cloud_toa import Client

V4 = Client(ip_address("198.51.100.7"), 5678)
V6 = Client(ip_address("2001:db8::7"), 5678)
LOOPBACK = ["127.0.0.1", "::1"]
