# SPDX-License-Identifier: Apache-2.0
"""Rule sets as others write them on the lab's edge, and all that a neighbour could disturb."""

from pathlib import Path

from cloud_toa.demo.lab import Lab
from cloud_toa.isolation import run
from tests.netns.queue_haproxy import PORT

# As firewalld 1.3 writes it with its nftables backend: to-client in the zone public with one
# port open, to-origin in the zone external, which masquerades; IPv6_rpfilter=yes, RFC3964_IPv4=yes.
# Lines are as long as its own.
FIREWALLD = f"""
table inet firewalld {{
  chain mangle_PREROUTING {{
    type filter hook prerouting priority mangle + 10; policy accept;
    jump mangle_PREROUTING_POLICIES
  }}
  chain mangle_PREROUTING_POLICIES {{ }}
  chain nat_PREROUTING {{
    type nat hook prerouting priority dstnat + 10; policy accept;
    jump nat_PREROUTING_POLICIES
  }}
  chain nat_PREROUTING_POLICIES {{ }}
  chain nat_POSTROUTING {{
    type nat hook postrouting priority srcnat + 10; policy accept;
    jump nat_POSTROUTING_POLICIES
  }}
  chain nat_POSTROUTING_POLICIES {{
    oifname "to-origin" jump nat_POST_external_allow
  }}
  chain nat_POST_external_allow {{
    meta nfproto ipv4 oifname != "lo" masquerade
  }}
  chain nat_OUTPUT {{
    type nat hook output priority -90; policy accept;
  }}
  chain filter_PREROUTING {{
    type filter hook prerouting priority filter + 10; policy accept;
    icmpv6 type {{ nd-router-advert, nd-neighbor-solicit }} accept
    meta nfproto ipv6 fib saddr . mark . iif oif missing drop
  }}
  chain filter_INPUT {{
    type filter hook input priority filter + 10; policy accept;
    ct state {{ established, related }} accept
    ct status dnat accept
    iifname "lo" accept
    ct state invalid drop
    jump filter_INPUT_POLICIES
    reject with icmpx admin-prohibited
  }}
  chain filter_INPUT_POLICIES {{
    iifname "to-client" jump filter_IN_public
    iifname "to-origin" jump filter_IN_external
  }}
  chain filter_IN_public {{
    tcp dport {PORT} accept
    meta l4proto {{ icmp, ipv6-icmp }} accept
  }}
  chain filter_IN_external {{
    tcp dport 22 accept
    meta l4proto {{ icmp, ipv6-icmp }} accept
  }}
  chain filter_FORWARD {{
    type filter hook forward priority filter + 10; policy accept;
    ct state {{ established, related }} accept
    ct status dnat accept
    iifname "lo" accept
    ct state invalid drop
    ip6 daddr {{ ::/96, ::ffff:0.0.0.0/96, 2002::/24, 2002:a00::/24, 2002:7f00::/24 }} reject with icmpv6 addr-unreachable
    reject with icmpx admin-prohibited
  }}
  chain filter_OUTPUT {{
    type filter hook output priority filter + 10; policy accept;
    ct state {{ established, related }} accept
    oifname "lo" accept
    ip6 daddr {{ ::/96, ::ffff:0.0.0.0/96, 2002::/24, 2002:a00::/24, 2002:7f00::/24 }} reject with icmpv6 addr-unreachable
  }}
}}
"""  # noqa: E501

# Docker 24's, in the tables of iptables, with one published port. The container's network is
# `container`, below.
DOCKER = """
*nat
:DOCKER -
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A POSTROUTING -s 172.17.0.2/32 -d 172.17.0.2/32 -p tcp -m tcp --dport 80 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8088 -j DNAT --to-destination 172.17.0.2:80
COMMIT
*filter
:FORWARD DROP
:DOCKER -
:DOCKER-ISOLATION-STAGE-1 -
:DOCKER-ISOLATION-STAGE-2 -
:DOCKER-USER -
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A FORWARD -i docker0 -o docker0 -j ACCEPT
-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
-A DOCKER-ISOLATION-STAGE-2 -j RETURN
-A DOCKER-USER -j RETURN
COMMIT
"""

OTHER_SOURCE = {4: "10.9.0.50", 6: "fd09::50"}
OTHER_PORT = 9999

BY_HAND = f"""
table inet nat {{
  chain prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
    iifname "to-client" tcp dport {OTHER_PORT} redirect to :{PORT}
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    oifname "to-origin" snat ip to {OTHER_SOURCE[4]}
    oifname "to-origin" snat ip6 to {OTHER_SOURCE[6]}
  }}
}}
"""


def load(lab: Lab, rules: str) -> None:
    """Beside what is there."""
    program = ["iptables-restore", "--noflush"] if rules is DOCKER else ["nft", "-f", "-"]
    run("nsenter", f"--net={lab.edge.path}", *program, said=rules)


def everything(lab: Lab) -> dict[str, str]:
    """All of the edge's network that a neighbour could disturb; without counts."""
    shown = {
        command: "\n".join(
            line for line in lab.edge.run(*command.split()).splitlines() if line[:1] != "#"
        )
        for command in (
            "nft -s list ruleset",
            "iptables-save",
            "ip6tables-save",
            "ip -4 rule",
            "ip -6 rule",
            "ip -4 route show table all",
            "ip -6 route show table all",
        )
    }
    with lab.edge.entered():
        for path in Path("/proc/sys/net").rglob("*"):
            if path.is_file() and path.name != "nf_conntrack_count":
                try:
                    shown[str(path)] = path.read_text()
                except OSError as error:  # some are written only, or not set
                    shown[str(path)] = str(error)
    return shown
