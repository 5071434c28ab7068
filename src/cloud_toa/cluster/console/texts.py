# SPDX-License-Identifier: Apache-2.0
"""What the pages say, in each language: one catalogue, in the files of ``texts/``.

A key has all its languages beside each other, so that none is forgotten. Messages that other
parts make are English; ``mistakes.toml`` has those that an operator meets in other languages.
"""

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

LANGUAGES = {"en": "English", "zh": "中文"}
"""By the code of HTML's ``lang``: what a language calls itself."""

_PREFERRED = re.compile(r"\s*([A-Za-z]+)[A-Za-z0-9-]*\s*(?:;\s*q=([01](?:\.\d{0,3})?)\s*)?")


@dataclass(frozen=True)
class Texts:
    """The texts in one language."""

    language: str

    def __call__(self, key: str, **values: object) -> str:
        """The text of this key.

        Raises:
            KeyError: the catalogue has none.
        """
        text = catalogue()[key][self.language]
        return text.format(**values) if values else text

    def has(self, key: str) -> bool:
        """Whether there is such a text."""
        return key in catalogue()

    def message(self, said: str) -> str | None:
        """What another part says, in this language; None where only English is known."""
        if self.language == "en":
            return said
        for pattern, message in _messages():
            if found := pattern.fullmatch(said):
                return message[self.language].format(**found.groupdict())
        return None


@cache
def catalogue() -> dict[str, dict[str, str]]:
    """Every text: by key, such as ``nav.nodes``, and language."""
    found: dict[str, dict[str, str]] = {}
    for name in ("pages", "fields"):
        _flatten(_read(name), "", found)
    return found


def preferred(accept: str) -> str:
    """The language that a browser asks for (``Accept-Language``); English where it knows none."""
    best, weight = "en", 0.0
    for part in accept.split(","):
        found = _PREFERRED.fullmatch(part)
        if found is None or found[1].lower() not in LANGUAGES:
            continue
        quality = float(found[2] or 1)
        if quality > weight:
            best, weight = found[1].lower(), quality
    return best


@cache
def _messages() -> list[tuple[re.Pattern[str], dict[str, str]]]:
    return [(re.compile(each["en"], re.DOTALL), each) for each in _read("mistakes")["message"]]


def _read(name: str) -> dict[str, Any]:
    file = resources.files(__package__) / "texts" / f"{name}.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))


def _flatten(table: dict[str, Any], prefix: str, into: dict[str, dict[str, str]]) -> None:
    for key, value in table.items():
        if all(isinstance(each, str) for each in value.values()):
            into[prefix + key] = value
        else:
            _flatten(value, f"{prefix}{key}.", into)
