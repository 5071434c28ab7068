# SPDX-License-Identifier: Apache-2.0
"""settings_text.py: what forms change in a text, and what they leave alone."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from cloud_toa.cluster.model import settings, settings_text
from cloud_toa.cluster.model.values import MissingError, RefusedError

EXAMPLE = (Path(__file__).parents[3] / "packaging/edge.toml").read_text()
WEB: dict[str, Any] = {
    "name": "web",
    "listen": ["127.0.0.1:80"],
    "origin": [{"address": "192.0.2.7", "port": 80}],
}
OTHER: dict[str, Any] = {**WEB, "name": "other", "listen": ["0.0.0.0:81"]}
TLS: dict[str, Any] = {
    **WEB,
    "name": "shop",
    "listen": ["0.0.0.0:443"],
    "protocol": "tls",
    "tls": {"certificates": [{"certificate": "/etc/a.pem"}], "min_version": "1.3"},
    "check": {"fall": 5},
    "origin": [
        {"address": "192.0.2.9", "tls": {"verify": False}},
        {"address": "app.example.com", "port": 443, "tls": True, "backup": True},
    ],
}


def changed(before: str, after: str) -> list[str]:
    """The lines that differ."""
    lines = settings.diff_texts(before, after, "", "").splitlines()
    return [line for line in lines if line[0] in "+-" and not line.startswith(("---", "+++"))]


def test_toa_changes_its_lines_alone() -> None:
    after = settings_text.with_toa(EXAMPLE, {"enabled": False, "option_type_v4": 200})
    assert changed(EXAMPLE, after) == ["+enabled = false", "+option_type_v4 = 200"]
    again = settings_text.with_toa(after, {"enabled": True, "option_type_v4": None})
    assert changed(EXAMPLE, again) == ["+enabled = true"]


def test_comment_behind_a_value_stays() -> None:
    text = f"[toa]\noption_type_v4 = 254 # as agreed\n{settings_text.with_service('', None, WEB)}"
    after = settings_text.with_toa(text, {"option_type_v4": 253})
    assert "option_type_v4 = 253 # as agreed" in after


def test_toa_where_there_is_no_table() -> None:
    text = settings_text.with_service("", None, WEB)
    after = settings_text.with_toa(text, {"enabled": False})
    assert tomllib.loads(after)["toa"] == {"enabled": False}
    assert after.index("[toa]") < after.index("[[service]]")
    assert settings.check(after) == []


def test_service_is_added_changed_and_removed() -> None:
    text = settings_text.with_service(EXAMPLE, None, TLS)
    assert settings.check(text) == []
    assert all(line.startswith("+") for line in changed(EXAMPLE, text))
    assert settings_text.services(text)[1] == TLS
    other = {**TLS, "algorithm": "source", "origin": TLS["origin"][:1]}
    del other["check"]
    after = settings_text.with_service(text, "shop", other)
    assert settings_text.services(after)[1] == other
    assert settings_text.services(after)[0] == settings_text.services(EXAMPLE)[0]
    gone = settings_text.without_service(after, "shop")
    assert tomllib.loads(gone) == tomllib.loads(EXAMPLE)


def test_service_keeps_comments_of_what_stays() -> None:
    web = settings_text.services(EXAMPLE)[0]
    after = settings_text.with_service(EXAMPLE, "web", {**web, "listen": ["127.0.0.1:81"]})
    assert changed(EXAMPLE, after) == [
        '-listen = ["0.0.0.0:80", "[::]:80"]',
        '+listen = ["127.0.0.1:81"]',
    ]


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"option_type_v4": 300}, "toa.option_type_v4"),
        ({"option_type_v6": 30}, "toa.option_type_v6"),
        ({"option_type_v4": "254"}, "toa.option_type_v4"),
        ({"min_queue_id": 65536}, "toa.min_queue_id"),
        ({"min_queue_id": 5, "max_queue_id": 4}, "toa.min_queue_id"),
        ({"min_queue_id": 0, "max_queue_id": 256}, "toa.max_queue_id"),
        ({"where": ["fin"]}, "toa.where.0"),
        ({"kind": 254}, "toa.kind"),
    ],
    ids=str,
)
def test_toa_is_refused_by_field(values: dict[str, Any], field: str) -> None:
    (mistake,) = settings_text.check_toa(values)
    assert mistake.field == field
    with pytest.raises(RefusedError) as refused:
        settings_text.with_toa(EXAMPLE, values)
    assert list(refused.value.mistakes) == [mistake]


def test_queue_that_what_is_there_rules_out() -> None:
    text = settings_text.with_toa(EXAMPLE, {"min_queue_id": 10, "max_queue_id": 12})
    with pytest.raises(RefusedError, match="min_queue_id 10 is above max_queue_id 9"):
        settings_text.with_toa(text, {"max_queue_id": 9})


@pytest.mark.parametrize(
    ("values", "fields"),
    [
        ({**OTHER, "origin": [{"address": "192.0.2.7", "port": 0}]}, "service.1.origin.0.port"),
        ({**OTHER, "name": "a b"}, "service.1.name"),
        ({**OTHER, "colour": "red"}, "service.1.colour"),
        ({"name": "x"}, "service.1 service.1"),
        ({**OTHER, "allow": [None]}, "service.1.allow.0"),
        ({**OTHER, "listen": ["\x00"]}, "service.1.listen.0"),
        # All of it, what is beside other services as well.
        (
            {**WEB, "algorithm": "best", "allow": ["x"]},
            "service.1.algorithm service.1.allow.0 service.1.name service.1.listen",
        ),
    ],
    ids=lambda value: str(value)[-40:],
)
def test_service_is_refused_by_field(values: dict[str, Any], fields: str) -> None:
    with pytest.raises(RefusedError) as refused:
        settings_text.with_service(EXAMPLE, None, values)
    assert [mistake.field for mistake in refused.value.mistakes] == fields.split()


def test_no_such_service() -> None:
    with pytest.raises(MissingError, match="there is no service other"):
        settings_text.without_service(EXAMPLE, "other")


@pytest.mark.parametrize("text", ["[toa", "a = ", "service = 5", "service = [{name='web'}]"])
def test_text_that_forms_can_not_change(text: str) -> None:
    with pytest.raises(RefusedError):
        settings_text.with_service(text, None, WEB)


NAMES = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)
ORIGINS = st.lists(
    st.fixed_dictionaries(
        {"address": st.integers(1, 250).map("192.0.2.{}".format)},
        optional={
            "port": st.integers(1, 65535),
            "weight": st.integers(0, 256),
            "backup": st.booleans(),
            "state": st.sampled_from(["active", "drain", "maintenance"]),
            "tls": st.sampled_from([False, {"verify": False}]),
        },
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda origin: origin["address"],
)
SERVICES = st.fixed_dictionaries(
    {"listen": st.just(["127.0.0.1:80"]), "origin": ORIGINS},
    optional={
        "toa": st.booleans(),
        "algorithm": st.sampled_from(["roundrobin", "source"]),
        "check": st.fixed_dictionaries({}, optional={"fall": st.integers(1, 9)}),
        "deny": st.lists(st.just("192.0.2.0/24"), max_size=2),
    },
)


@settings_of_hypothesis(max_examples=25, deadline=None)  # tomlkit takes its time
@given(services=st.lists(SERVICES, min_size=2, max_size=5))
def test_any_service_into_any_other(services: list[dict[str, Any]]) -> None:
    text = EXAMPLE
    for service in services:
        values = {"name": "web", **service}
        text = settings_text.with_service(text, "web", values)
        assert settings_text.services(text) == [values]
        assert settings.check(text) == []
    assert text.startswith(EXAMPLE[: EXAMPLE.index("[[service]]")])


def test_a_table_of_a_service_behind_another_table() -> None:
    """tomlkit reads it, and loses its way when it is to change it."""
    text = """[[service]]
name = "web"
listen = ["127.0.0.1:80"]
[[service.origin]]
address = "192.0.2.7"
port = 80
[toa]
enabled = true
[service.check]
rise = 2
"""
    assert not settings.check(text)
    with pytest.raises(RefusedError, match="in a way that forms can't change"):
        settings_text.with_service(text, "web", WEB)
