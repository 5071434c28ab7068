# SPDX-License-Identifier: Apache-2.0
"""Forms to the values of a file, and back."""

import msgspec
import pytest

from cloud_toa.balancer.settings import Service
from cloud_toa.cluster.console import form_fields, form_values
from cloud_toa.cluster.model.values import Mistake
from cloud_toa.node.edge_file import Toa

SERVICE = form_fields.of(Service, "service")
TOA = form_fields.of(Toa, "toa")
SWITCHES = {"toa": ["on"], "check.enabled": ["on"]}
"""Those that are on by default: a browser says nothing of one that is off."""


def test_what_is_as_by_default_is_left_out() -> None:
    posted = {
        "name": [" web "],
        "listen": ["0.0.0.0:80\n\n [::]:80 "],
        "protocol": ["tcp"],
        "connect_timeout": [""],
        "origin.0.address": ["192.0.2.7"],
        "origin.0.port": ["80"],
        "origin.0.toa": [""],
        "origin.0.state": ["active"],
        "origin.0.tls.verify": ["on"],
        "tls.min_version": ["1.2"],
        **SWITCHES,
    }
    assert form_values.read(posted, SERVICE) == {
        "name": "web",
        "listen": ["0.0.0.0:80", "[::]:80"],
        "origin": [{"address": "192.0.2.7", "port": 80}],
    }


def test_what_the_file_spells_out_stays_spelt_out() -> None:
    before = {"protocol": "tcp", "check": {"rise": 2}, "origin": [{"weight": 1}]}
    posted = {
        "protocol": ["tcp"],
        "check.rise": ["2"],
        "check.fall": ["3"],
        "origin.0.address": ["192.0.2.7"],
        "origin.0.weight": ["1"],
        "origin.0.tls.verify": ["on"],
        **SWITCHES,
    }
    values = form_values.read(posted, SERVICE, before=before)
    assert values["protocol"] == "tcp"
    assert values["check"] == {"rise": 2}
    assert values["origin"] == [{"address": "192.0.2.7", "weight": 1}]


def test_everything_that_a_service_can_say_is_read() -> None:
    """The values make the same service as the struct that they were taken from."""
    posted = {
        "name": ["shop"],
        "listen": ["0.0.0.0:443"],
        "protocol": ["tls"],
        "tls.certificates.0.certificate": ["/a.pem"],
        "tls.certificates.1.certificate": ["/b.crt"],
        "tls.certificates.1.key": ["/b.key"],
        "tls.min_version": ["1.3"],
        "server_names": ["a.example, *.b.example"],
        "algorithm": ["leastconn"],
        "check.interval": ["5s"],
        "max_connections": ["100"],
        "allow": ["198.51.100.0/24"],
        "origin.0.address": ["app.example"],
        "origin.0.tls": ["on"],
        "origin.0.tls.verify": ["on"],
        "origin.0.backup": ["on"],
        "origin.0.toa": ["false"],
        "origin.3.address": ["192.0.2.9"],
        "origin.3.tls": ["on"],
        "origin.3.tls.server_name": ["app.example"],
        "origin.3.tls.verify": ["on"],
        "origin.3.proxy": ["v2"],
    }
    service = msgspec.convert(form_values.read(posted, SERVICE), Service)
    assert service.toa is False
    assert service.check.enabled is False
    assert service.server_names == ("a.example", "*.b.example")
    first, second = service.origin
    assert (first.tls, first.backup, first.toa) == (True, True, False)
    assert second.server_name == "app.example"
    assert service.tls is not None
    assert [each.key for each in service.tls.certificates] == [None, "/b.key"]


def test_an_origin_with_both_addresses() -> None:
    """As a list; one address, or a name, as it is."""
    posted = {
        "name": ["db"],
        "listen": ["[::]:80"],
        "origin.0.address": ["192.0.2.7, 2001:db8::7"],
        "origin.1.address": ["192.0.2.8"],
        **SWITCHES,
    }
    service = msgspec.convert(form_values.read(posted, SERVICE), Service)
    assert [each.address for each in service.origin] == [
        ("192.0.2.7", "2001:db8::7"),
        "192.0.2.8",
    ]


def test_numbers_that_are_none_stay_as_they_were_typed() -> None:
    values = form_values.read({"option_type_v4": ["twelve"], "min_queue_id": ["1" * 30]}, TOA)
    assert values["option_type_v4"] == "twelve"
    assert values["min_queue_id"] == "1" * 30


def test_none_of_several_is_said() -> None:
    assert form_values.read({}, TOA)["where"] == []
    assert "where" not in form_values.read({"where": ["syn", "ack", "data"]}, TOA)
    assert form_values.read({"where": ["data", "syn", "no such"]}, TOA)["where"] == ["syn", "data"]


def test_rows_come_and_go() -> None:
    posted = {"origin.0.address": ["a"], "origin.1.address": [""], "origin.2.address": ["c"]}
    asked = {**posted, "remove": ["origin.2"]}
    left = form_values.read(form_values.without_removed(asked), SERVICE)
    assert [row["address"] for row in left["origin"]] == ["a"]
    values = form_values.with_added({"add": ["origin"]}, SERVICE, left)
    assert values["origin"] == [{"address": "a"}, {}]
    values = form_values.with_added({"add": ["tls.certificates"]}, SERVICE, {})
    assert values == {"tls": {"certificates": [{}]}}
    for nonsense in ("name", "no.such", "", "origin.0.address"):
        form_values.with_added({"add": [nonsense]}, SERVICE, {"name": "web"})


@pytest.mark.parametrize(
    ("field", "message", "input_"),
    [
        ("service.2.origin.0.port", "port = 0: write a number", "origin.0.port"),
        ("service.2", "listen is missing: write a list", "listen"),
        ("service.2", "service web has no sense", ""),
        ("service.1.name", "two services are named web: rename one", ""),
        ("toa.enabled", "something else", ""),
        ("", "the text is too long", ""),
    ],
)
def test_mistakes_stand_beside_their_input(field: str, message: str, input_: str) -> None:
    mistake = Mistake(message=message, field=field)
    assert form_values.by_field([mistake], "service.2", SERVICE) == {input_: [message]}
