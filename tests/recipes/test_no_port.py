# SPDX-License-Identifier: Apache-2.0
"""Real load balancers that connect from the client's address, but not from its port."""

from pathlib import Path

import pytest

from cloud_toa.bpf import edge
from cloud_toa.demo.lab import Lab
from tests.recipes import test_haproxy, test_nginx
from tests.recipes.web import PORT, start_origin, visit


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("balancer", ["haproxy", "nginx"])
def test_the_server_sees_the_client(
    lab: Lab, balancers: Path, servers: Path, balancer: str, version: int
) -> None:
    log = start_origin(lab, servers)
    page = {"haproxy": test_haproxy.PAGE, "nginx": test_nginx.PAGE}[balancer]
    page.attach(f"{balancer}.service", balancers)
    if balancer == "haproxy":
        text = page.block(test_haproxy.BOTH)
        assert text.count("usesrc client\n") == 1
        test_haproxy.start_haproxy(
            lab, balancers, text.replace("usesrc client\n", "usesrc clientip\n")
        )
    else:
        text = page.block(test_nginx.BOTH)
        assert text.count("[$remote_addr]:$remote_port") == 1
        command = test_nginx.write(lab, text.replace("[$remote_addr]:$remote_port", "$remote_addr"))
        lab.start(lab.edge, command, [("", PORT)], place=balancers)
    client, seen = visit(lab, log, version)
    assert seen.ip == client.ip
    status = edge.status()
    assert status is not None
    assert (status.counters["no_port"], status.counters["clients"]) == (1, 1)
