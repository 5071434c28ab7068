# SPDX-License-Identifier: Apache-2.0
"""HAProxy's counts by service and origin."""

from cloud_toa.balancer.traffic import Origin, Service, by_service, parse

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


def test_an_origin_with_an_address_of_each_ip_version() -> None:
    """Once, however many backends know it; up as long as one of its addresses is."""
    rows = (
        "web,FRONTEND,6,90,1000,2000,0,0,,OPEN,,7,0,0,",
        "web,192.0.2.7:80,1,10,100,200,,0,1,DOWN,3,0,,,",
        "web,192.0.2.8:80,1,10,100,200,,0,0,UP,1,0,,,",
        "web,BACKEND,2,20,200,400,0,0,1,UP,4,2,,,",
        "web::ipv6,192.0.2.7:80,2,20,200,400,,0,1,UP,3,0,,,",
        "web::ipv6,192.0.2.8:80,1,10,100,200,,0,0,UP,1,0,,,",
        "web::ipv6,BACKEND,3,30,300,600,0,0,1,UP,4,3,,,",
        "web::backup,192.0.2.9:80,1,10,100,200,,0,0,no check,1,0,,,",
        "web::backup,BACKEND,1,10,100,200,0,0,0,UP,1,1,,,",
        "web::ipv6::backup,192.0.2.9:80,0,0,0,0,,0,0,no check,1,0,,,",
        "web::ipv6::backup,BACKEND,0,0,0,0,0,0,0,UP,1,1,,,",
    )
    origins = [
        Origin("192.0.2.7:80", "UP (IPv4 DOWN)", 3, 3, 30, 2, 300, 600),
        Origin("192.0.2.8:80", "UP", 1, 2, 20, 0, 200, 400),
        Origin("192.0.2.9:80", "no check", 1, 1, 10, 0, 100, 200),
    ]
    assert parse(shown(*rows)) == [Service("web", 6, 90, 7, 0, 1000, 2000, origins)]
    assert by_service(shown(*rows)) == [Service("web", 6, 60, 7, 0, 600, 1200, origins)]


def test_nothing_is_served() -> None:
    assert parse(shown()) == []
    assert parse("") == []
