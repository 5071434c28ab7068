# SPDX-License-Identifier: Apache-2.0
"""What nginx reads, as a tree; and whom it names, by the versions that were tried."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import text

from cloud_toa.doctor.nginx.judgement import Shared, shared, transparent, user, version
from cloud_toa.doctor.nginx.text import Directive, parse

OLD, NEW = (1, 29, 6), (1, 29, 7)
BIND = "proxy_bind $remote_addr:$remote_port transparent;"


def dump(main: str, **others: str) -> str:
    """As ``nginx -T`` prints it; ``others`` are in a folder ``more``."""
    files = {"nginx.conf": main} | {f"more/{name}.conf": text for name, text in others.items()}
    return "".join(f"# configuration file /n/{name}:\n{text}\n\n" for name, text in files.items())


def names(blocks: tuple[Directive, ...]) -> list[object]:
    return [
        (" ".join(each.words), names(each.block)) if each.block else " ".join(each.words)
        for each in blocks
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b;c d e ;", ["a b", "c d e"]),
        ("a { b; } # c;\nd;", [("a", ["b"]), "d"]),
        ("a 'b; {' \"c }\" 'it''s';", ["a b; { c } it s"]),
        (r"a 'b\'c' d\;e \\;", ["a b'c d\\;e \\"]),
        ("a ${b}c x#y {}", ["a ${b}c x#y"]),
        ("a b}c;", ["a b}c"]),
        (
            "content_by_lua_block { if x then y = '}' end -- }\n z = { [[ } ]] } } b;",
            ["b"],
        ),
        ("a; } b;", ["a"]),
        ("a { b", ["a"]),
        ("", []),
    ],
)
def test_words_and_blocks(text: str, expected: list[object]) -> None:
    assert names(parse(dump(text))) == expected


def test_a_text_that_is_no_dump_has_nothing() -> None:
    assert parse("nginx: [emerg] open() failed") == ()


@given(text(st.sampled_from("a;{}\"'\\ \n#$[]-=") | st.characters()))
def test_any_text_is_read_to_its_end(written: str) -> None:
    main = parse(dump(f"{written}\ninclude more/*.conf;", a=written))
    assert shared(main, NEW) == []


def test_files_are_included_in_their_context_only() -> None:
    text = dump(
        "include more/a*.conf;\nhttp { include /n/more/b.conf; }",
        a1="x;",
        a2="y {\n\n z; }",
        b="include more/c.conf; include more/b.conf;",
        c="w;",
    )
    assert names(parse(text)) == ["x", ("y", ["z"]), ("http", ["w"])]
    assert [each.where for each in parse(text)] == [
        "/n/more/a1.conf:1",
        "/n/more/a2.conf:1",
        "/n/nginx.conf:2",
    ]
    assert parse(text)[1].block[0].where == "/n/more/a2.conf:3"


def test_the_real_nginx_prints_what_is_read_here(tmp_path: Path) -> None:
    """With Debian's own includes; nothing of nginx's is made but in a folder of ours."""
    file = tmp_path / "nginx.conf"
    file.write_text(
        f"user www-data; pid {tmp_path}/pid; error_log stderr;\n"
        "include /etc/nginx/modules-enabled/*.conf;\nevents {}\n"
        "http { access_log off; include mime.types; include /etc/nginx/sites-enabled/*; }\n"
    )
    (tmp_path / "mime.types").write_text("types { text/html html; }")
    command = ["nginx", "-T", "-c", str(file)]
    main = parse(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    (http,) = [each for each in main if each.name == "http"]
    assert any(each.name == "load_module" and "stream" in each.words[1] for each in main)
    assert {"server", "types"} <= {each.name for each in http.block}
    assert user(main) == "www-data"


@pytest.mark.parametrize(
    ("upstream", "passed", "by_old", "by_new"),
    [
        # What nginx 1.22 and 1.30 were seen to do with it.
        ("", "http://192.0.2.7", False, False),
        ("upstream o { server 192.0.2.7; }", "http://o", False, True),
        ("upstream o { server 192.0.2.7; keepalive 8; }", "http://o", True, True),
        ("upstream o { server 192.0.2.7; keepalive 8; }", "http://o/path", True, True),
        ("upstream o { server 192.0.2.7; keepalive 0; }", "http://o", False, False),
        # Another upstream's are no concern; by a variable, any may be meant.
        ("upstream o { server 192.0.2.7; keepalive 8; }", "http://192.0.2.8", False, False),
        ("upstream o { server 192.0.2.7; keepalive 8; }", "http://$host", True, True),
    ],
)
def test_connections_that_are_kept_name_the_wrong_client(
    upstream: str, passed: str, by_old: bool, by_new: bool
) -> None:
    main = parse(
        dump(f"http {{ {upstream} server {{\nlocation / {{ {BIND} proxy_pass {passed}; }} }} }}")
    )
    assert transparent(main)
    assert bool(shared(main, OLD)) is by_old
    found = shared(main, NEW)
    assert bool(found) is by_new
    if found:
        assert found == [Shared("/n/nginx.conf:2", "o", "keepalive" in upstream)]


@pytest.mark.parametrize(
    ("outer", "inner", "wrong"),
    [
        (BIND, "", True),
        (BIND, "proxy_bind off;", False),
        ("", "proxy_bind 192.0.2.1;", False),
        ("", "proxy_bind 192.0.2.1 transparent;", False),  # the same one for all
        ("grpc_bind $remote_addr transparent;", "", False),  # of another protocol
        ("", f"if ($arg_a) {{ {BIND} proxy_pass http://o; }}", True),
    ],
)
def test_a_source_holds_for_blocks_inside(outer: str, inner: str, wrong: bool) -> None:
    main = parse(
        dump(
            f"http {{ {outer} upstream o {{ server 192.0.2.7; }}"
            f" server {{ location / {{ {inner} proxy_pass http://o; }} }} }}"
        )
    )
    assert bool(shared(main, NEW)) is wrong


def test_a_stream_has_a_connection_for_each_client() -> None:
    main = parse(
        dump(
            f"stream {{ upstream o {{ server 192.0.2.7:80; }} server {{ {BIND} proxy_pass o; }} }}"
        )
    )
    assert transparent(main)
    assert shared(main, NEW) == []


def test_versions() -> None:
    assert version("nginx version: nginx/1.22.1\nbuilt by gcc 12.2.0") == (1, 22, 1)
    assert version("nginx version: openresty/1.29.7.1") == (1, 29, 7)
    assert version("") == ()
