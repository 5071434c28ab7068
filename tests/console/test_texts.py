# SPDX-License-Identifier: Apache-2.0
"""The catalogue has every text in every language, and the templates have none of their own."""

import re
from pathlib import Path
from string import Formatter

import pytest
from jinja2 import nodes

from cloud_toa.balancer.settings import Service
from cloud_toa.cluster.console import form_fields, static, templates
from cloud_toa.cluster.console.texts import LANGUAGES, Texts, _messages, catalogue, preferred
from cloud_toa.node.edge_file import EdgeFile, Toa

TEMPLATES = sorted((static.FOLDER.parent / "templates").glob("*.html"))
# What is the same in every language.
NAMES = {"TOA", "SPDX-License-Identifier: Apache-2.0"}
_ATTRIBUTES = ("title", "aria-label", "alt", "placeholder", "data-name", "data-labels", "value")


def test_every_text_has_every_language() -> None:
    for key, texts in catalogue().items():
        assert set(texts) == set(LANGUAGES), key
        assert all(texts.values()), key
        named = [
            {name for _, name, _, _ in Formatter().parse(text) if name} for text in texts.values()
        ]
        assert named[0] == named[1], key


def test_chinese_texts_are_chinese() -> None:
    for key, texts in catalogue().items():
        assert not re.search(r"[\u4e00-\u9fff]", texts["en"]), key
        if re.search(r"[a-z]{3,} [a-z]{2,}", texts["en"]) and not key.startswith("brand"):
            assert re.search(r"[\u4e00-\u9fff]", texts["zh"]), key


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_a_template_has_no_text_of_its_own(path: Path) -> None:
    # Attributes that several inputs have.
    source = re.sub(r"\{% set \w+ %\}.*?\{% endset %\}", "", path.read_text(), flags=re.DOTALL)
    source = re.sub(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}", "\0", source, flags=re.DOTALL)
    source = re.sub(r"<meta [^>]*>|<!doctype html>", "", source)
    texts = [text.strip() for text in re.sub(r"<[^>]*>", "\0", source).split("\0")]
    found = [text for text in texts if re.search(r"[^\W\d_]", text)]
    for attribute in _ATTRIBUTES:
        for value in re.findall(rf'\s{attribute}="([^"\0]*)"', source):
            if attribute == "value" or value in NAMES:
                continue
            if re.search(r"[^\W\d_]", value):
                found.append(value)
    assert [text for text in found if text not in NAMES] == []
    # No scripts or styles that the content policy would refuse.
    assert not re.search(r"\s(style|on\w+|hx-on[^=]*)=", source)
    assert not re.search(r"<script(?![^>]*src=)", source)


def test_templates_ask_for_texts_that_are_there() -> None:
    """Those whose key is written out; the pages' tests meet the others."""
    environment = templates.environment()
    used = set()
    for path in TEMPLATES:
        tree = environment.parse(path.read_text())
        for call in tree.find_all(nodes.Call):
            named = isinstance(call.node, nodes.Name) and call.node.name == "t"
            if named and isinstance(call.args[0], nodes.Const):
                used.add(call.args[0].value)
    assert used
    assert sorted(used - set(catalogue())) == []


@pytest.mark.parametrize(("kind", "path"), [(EdgeFile, ""), (Toa, "toa"), (Service, "service")])
def test_every_key_of_the_file_has_a_label_and_help(kind: type, path: str) -> None:
    """A key that is new in the file is in the forms by itself; here it is missed."""
    fields = form_fields.every(form_fields.of(kind, path))
    missing = [
        f"field.{field.path}.{what}"
        for field in fields
        if field.path != "service" and field.path != "toa"
        for what in ("label", "help", *(("one", "add") if field.widget == "rows" else ()))
        if f"field.{field.path}.{what}" not in catalogue()
    ]
    assert missing == []


def test_messages_of_other_parts_in_chinese() -> None:
    t = Texts("zh")
    assert t.message(
        "option kind 8 is in use for Timestamps: choose one such as 254, 253 or 200"
    ) == ("类型数值8已被占用（Timestamps）：请选择254、253或200等")
    assert t.message(
        "min_queue_id 5 to max_queue_id 261 are 257 queues, and as many processes: 256 at most, "
        "one for each processor is best"
    ) == ("队列ID从5到261共257个队列，每个队列一个进程：最多256个，建议每个处理器一个")
    assert t.message("something that nobody has translated") is None
    assert Texts("en").message("something") == "something"
    for pattern, texts in _messages():
        named = {name for _, name, _, _ in Formatter().parse(texts["zh"]) if name}
        assert named <= set(pattern.groupindex), pattern.pattern


@pytest.mark.parametrize(
    ("asked", "language"),
    [
        ("", "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("en-US,en;q=0.9,zh;q=0.8", "en"),
        ("fr,zh;q=0.2", "zh"),
        ("de;q=1,fr", "en"),
        ("zh;q=..,en;q=0.1", "en"),
        (",,;q=", "en"),
    ],
)
def test_the_language_that_a_browser_asks_for(asked: str, language: str) -> None:
    assert preferred(asked) == language
