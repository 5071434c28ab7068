# SPDX-License-Identifier: Apache-2.0
"""What ``nginx -T`` prints, as a tree of directives. Pure.

Theory of operation. nginx prints each file that it has read after a comment with its name, in
the order of reading, the main one first. A file is words, each ended by white space, ``;`` or
``{``; a word that begins with a quote lasts until the next one; a backslash takes the next
character as it is. ``include`` is expanded in place: what a directive means depends on its context.

By hand and not by crossplane, the one library for this: its last release is of 2022, it reads files
and not ``nginx -T``, and refuses what its list of directives does not have.

Source: nginx 1.30, src/core/ngx_conf_file.c (ngx_conf_read_token); nginx.c (ngx_dump_config);
lua-nginx-module, ``*_by_lua_block``.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

_FILE = re.compile(r"^# configuration file (.+):$", re.MULTILINE)
_TOKEN = re.compile(
    r"""(?P<space>\s+ | \#[^\n]*)
    | (?P<mark>[;{}])
    | "(?P<double>(?:\\.|[^"\\])*)" | '(?P<single>(?:\\.|[^'\\])*)'
    | (?P<word>(?:\\. | \$\{ | [^\s;{\\])+)""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPED = re.compile(r"\\([\"'\\])")
_LUA = "_by_lua_block"
_LUA_TOKEN = re.compile(
    r"""--\[(=*)\[.*?\]\1\] | --[^\n]* | \[(=*)\[.*?\]\2\]
    | "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*' | [{}]""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class Directive:
    """One directive: its words, where it stands (``file:line``), and what its block has."""

    words: tuple[str, ...]
    where: str
    block: tuple["Directive", ...] = ()

    @property
    def name(self) -> str:
        """Its first word."""
        return self.words[0]


Blocks = tuple[Directive, ...]


def parse(dump: str) -> Blocks:
    """The main context of what ``nginx -T`` has printed.

    nginx prints only what it takes. What has no end all the same ends where the text does.

    Raises:
        RecursionError: blocks in blocks, hundreds deep.
    """
    pieces = _FILE.split(dump)[1:]
    # A file that is included twice is printed once.
    files = dict(zip(pieces[::2], pieces[1::2], strict=True))
    if not files:
        return ()
    main = next(iter(files))
    return _Reader(files, PurePosixPath(main).parent).read(main, frozenset())


def directives(text: str) -> Blocks:
    """Those of one text, such as what follows ``nginx -g``, which no dump shows."""
    return _Reader({"-g": text}, PurePosixPath("/")).read("-g", frozenset())


class _Reader:
    def __init__(self, files: Mapping[str, str], folder: PurePosixPath) -> None:
        self._files, self._folder = files, folder

    def read(self, name: str, above: frozenset[str]) -> Blocks:
        """A file's directives; ``above`` are those that it is being included from."""
        return tuple(self._directives(_Tokens(name, self._files[name]), above | {name}))

    def _directives(self, tokens: "_Tokens", above: frozenset[str]) -> Iterator[Directive]:
        words: list[str] = []
        line = 0
        while (token := tokens.next()) is not None:
            mark, text = token
            if not mark:
                line = line if words else tokens.line
                words.append(text)
            elif text == "}":
                return
            elif words:
                where = f"{tokens.name}:{line}"
                if text == "{" and words[0].endswith(_LUA):
                    tokens.skip_lua()
                elif text == "{":
                    yield Directive(tuple(words), where, tuple(self._directives(tokens, above)))
                elif words[0] == "include" and words[1:]:
                    yield from self._included(words[1], above)
                else:
                    yield Directive(tuple(words), where)
                words = []

    def _included(self, pattern: str, above: frozenset[str]) -> Iterator[Directive]:
        wanted = str(self._folder / pattern)
        for name in self._files:
            if name not in above and (name == wanted or PurePosixPath(name).match(wanted)):
                yield from self.read(name, above)


class _Tokens:
    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.line = 1
        """That of the last token's beginning."""
        self._text, self._at, self._passed = text.removeprefix("\n"), 0, 0

    def next(self) -> tuple[bool, str] | None:
        """Whether it is one of ``;{}``, and its text; None at the end."""
        while found := _TOKEN.match(self._text, self._at):
            self.line += self._passed
            self._passed = found[0].count("\n")
            self._at = found.end()
            kind = found.lastgroup or ""
            if kind != "space":
                return kind == "mark", _ESCAPED.sub(r"\1", found[kind])
        return None

    def skip_lua(self) -> None:
        """Pass a block of Lua, whose opening brace was read."""
        depth = 1
        while depth and (found := _LUA_TOKEN.search(self._text, self._at)):
            depth += {"{": 1, "}": -1}.get(found[0], 0)
            self._passed += self._text.count("\n", self._at, found.end())
            self._at = found.end()
