# SPDX-License-Identifier: Apache-2.0
"""What is looked at on every page: faults for people with aids, width, languages, and a picture.

Pictures are written where they are missing, or all of them with ``SCREENSHOTS=1``: a run of the
tests changes nothing.
"""

import base64
import os
import re
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from cloud_toa.cluster.console.texts import catalogue

_PICTURES = Path(__file__).parents[2] / "docs" / "screenshots"
_TALLEST = 2400
"""Pixels of a picture; forms with everything unfolded are taller."""
_BLOCKING = ("serious", "critical")


def axe_faults(page: Page) -> list[tuple[str, list[str]]]:
    """What axe-core calls serious or critical: the rule, and where."""
    result = Axe().run(page)
    return [
        (each["id"], [node["html"][:200] for node in each["nodes"]])
        for each in result.response["violations"]
        if each["impact"] in _BLOCKING
    ]


def excess(page: Page) -> int:
    """Pixels by which a page is wider than the screen."""
    wide: int = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    return max(0, wide)


def foreign(page: Page, language: str) -> list[str]:
    """Texts of the other language."""
    other = "zh" if language == "en" else "en"
    theirs = {texts[other] for texts in catalogue().values()}
    theirs -= {texts[language] for texts in catalogue().values()}
    return [text for text in _texts(page) if text in theirs or _is_of(other, text)]


def keep_picture(page: Page, name: str) -> None:
    """Keep how it looks, if that is asked for or there is none."""
    path = _PICTURES / f"{name}.webp"
    if os.environ.get("SCREENSHOTS") or not path.exists():
        _PICTURES.mkdir(exist_ok=True)
        path.write_bytes(_picture(page))
    assert path.read_bytes()[8:12] == b"WEBP"


def _texts(page: Page) -> list[str]:
    """What stands on a page in its own language, attributes that are read out as well."""
    found: list[str] = page.evaluate(
        """() => {
        const own = (node) => {
          const named = node.closest("[lang]");
          return named === document.documentElement && !node.closest("script, style, code, pre");
        };
        const texts = [];
        const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        while (walk.nextNode())
          if (own(walk.currentNode.parentElement)) texts.push(walk.currentNode.data);
        for (const name of ["aria-label", "title", "placeholder", "data-name"])
          for (const each of document.querySelectorAll(`[${name}]`))
            if (own(each)) texts.push(each.getAttribute(name));
        texts.push(document.title);
        return texts.map((text) => text.trim()).filter((text) => text);
        }"""
    )
    return found


def _is_of(language: str, text: str) -> bool:
    """Whether a text can only be of this language: Chinese has its letters, English three words."""
    if language == "zh":
        return re.search(r"[\u4e00-\u9fff]", text) is not None
    return re.search(r"[a-z]{2,} [a-z]{2,} [a-z]{2,}", text) is not None


def _picture(page: Page) -> bytes:
    """The whole page; Playwright itself writes no WebP, which is a third of PNG here."""
    height = min(page.evaluate("document.documentElement.scrollHeight"), _TALLEST)
    answer = page.context.new_cdp_session(page).send(
        "Page.captureScreenshot",
        {
            "format": "webp",
            "quality": 85,
            "captureBeyondViewport": True,
            "clip": {"x": 0, "y": 0, "width": 1280, "height": height, "scale": 1},
        },
    )
    return base64.b64decode(answer["data"])
