# SPDX-License-Identifier: Apache-2.0
"""The page of run logs: no line is lost between two pages, or passed over without a word."""

import html
import re
import time

from cloud_toa.cluster.model.protocol import Line
from tests.console.conftest import Cluster
from tests.console.server import FakeNode
from tests.console.test_saving import Nodes

_TEXT = re.compile(r'<td class="text[^>]*>([^<]*)</td>')
_OLDER = re.compile(r'<a class="button" href="([^"]*)">Older</a>')


def tell(node: FakeNode, times: list[float], word: str) -> list[str]:
    """Lines of these times; answer their texts."""
    lines = [
        Line(time=at, level="info", tag="TOA", text=f"{word} {number}")
        for number, at in enumerate(times)
    ]
    node.tell(lines)
    return [line.text for line in lines]


def pages(cluster: Cluster, path: str) -> list[list[str]]:
    """The lines of a page, and of those that it leads to."""
    found = []
    while path:
        text = cluster.api.client.get(path).text
        found.append(_TEXT.findall(text))
        older = _OLDER.search(text)
        path = html.unescape(older[1]) if older else ""
    return found


def test_lines_of_one_second_are_on_one_page_or_the_other(cluster: Cluster, nodes: Nodes) -> None:
    begin = float(int(time.time()) - 1800)
    told = tell(nodes[1], [begin + at / 500 for at in range(450)], "crowded")
    found = pages(cluster, "/logs?word=crowded")
    assert [len(each) for each in found] == [200, 200, 50]
    assert [text for each in found for text in each] == told[::-1]


def test_lines_of_one_moment_are_on_one_page_or_the_other(cluster: Cluster, nodes: Nodes) -> None:
    begin = float(int(time.time()) - 1800)
    times = [begin] * 50 + [begin + 0.1234567] * 100 + [begin + 0.5] * 150
    told = tell(nodes[1], times, "sudden")
    first, second = pages(cluster, "/logs?word=sudden")
    assert len(first) == 200
    assert {*first, *second} == set(told)


def test_no_older_lines(cluster: Cluster, nodes: Nodes) -> None:
    tell(nodes[1], [time.time() - 1800] * 200, "all of them")
    assert [len(each) for each in pages(cluster, "/logs?word=all+of+them")] == [200]
