# SPDX-License-Identifier: Apache-2.0
"""HAProxy's counts by service and origin."""

from cloud_toa.balancer.traffic import Origin, Service, parse

HEAD = (
    "# pxname,svname,scur,stot,bin,bout,dreq,dresp,econ,status,weight,rate,dcon,dses,desc",
    "cloud-toa.metrics,FRONTEND,1,9,10,20,0,0,,OPEN,,1,0,0,",
)


def shown(*rows: str) -> str:
    return "\n".join((*HEAD, *rows)) + "\n\n"


def test_a_service_and_its_origins() -> None:
    found = parse(
        shown(
            "web,FRONTEND,3,100,1000,2000,1,0,,OPEN,,7,20,300,",
            "web,192.0.2.7:80,2,90,900,1800,,0,4,UP 1/2,5,7,,,",
            "web,192.0.2.8:80,0,0,0,0,,0,0,MAINT,0,0,,,",
            "web,BACKEND,3,90,900,1800,0,0,4,UP,5,7,,,",
        )
    )
    assert found == [
        Service(
            "web", 3, 100, 7, 321, 1000, 2000,
            [
                Origin("192.0.2.7:80", "UP 1/2", 5, 2, 90, 4, 900, 1800),
                Origin("192.0.2.8:80", "MAINT", 0, 0, 0, 0, 0, 0),
            ],
        )
    ]  # fmt: skip


def test_services_that_share_a_port() -> None:
    """Their clients are counted together, their origins in the order of services."""
    (found,) = parse(
        shown(
            "a:b,FRONTEND,1,2,3,4,0,0,,OPEN,,0,0,0,",
            "a,192.0.2.7:443,1,1,1,1,,0,0,UP,1,0,,,",
            "b,192.0.2.7:443,0,1,2,3,,0,0,DOWN,1,0,,,",
        )
    )
    assert (found.name, found.total) == ("a:b", 2)
    assert [each.state for each in found.origins] == ["UP", "DOWN"]


def test_nothing_is_served() -> None:
    assert parse(shown()) == []
    assert parse("") == []
