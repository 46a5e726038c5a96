from __future__ import annotations

from typing import Any

import pytest

from everloop.data.csv_files import read_csv
from everloop.errors import Invalid


def rows(text: str | bytes) -> list[dict[str, Any]]:
    data = text.encode() if isinstance(text, str) else text
    return read_csv(data, "x.csv").to_pylist()


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_header_tells_the_delimiter(delimiter: str) -> None:
    assert rows(f"a{delimiter}b\n1{delimiter}2\n") == [{"a": "1", "b": "2"}]


def test_one_column_needs_no_delimiter() -> None:
    assert rows("a\n1\n2\n") == [{"a": "1"}, {"a": "2"}]


def test_an_empty_field_is_missing_and_quotes_make_it_empty_text() -> None:
    assert rows('a,b\n1,\n2,""\n') == [{"a": "1", "b": None}, {"a": "2", "b": ""}]


def test_quotes_hold_delimiters_line_breaks_and_quotes() -> None:
    assert rows('a,b\n1,"x, ""y""\nz"\n') == [{"a": "1", "b": 'x, "y"\nz'}]


def test_an_inch_sign_inside_an_unquoted_field_is_text() -> None:
    assert rows('a,b\n1,27" screen\n2,32" screen\n3,5"\n') == [
        {"a": "1", "b": '27" screen'},
        {"a": "2", "b": '32" screen'},
        {"a": "3", "b": '5"'},
    ]


@pytest.mark.parametrize(
    "text", [b"\xef\xbb\xbfa,b\n1,2\n", b"a,b\r\n1,2\r\n", b"a,b\n1,2", b"a,b\n\n1,2\n\n"]
)
def test_byte_order_mark_line_ends_and_blank_lines_do_not_matter(text: bytes) -> None:
    assert rows(text) == [{"a": "1", "b": "2"}]


def test_names_are_trimmed() -> None:
    assert rows("a, b\n1,2\n") == [{"a": "1", "b": "2"}]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a,b\n1,2\n3\n", "line 3 has 1 fields and the header has 2"),
        ("a,b\n1,2\n3,4,5\n", "line 3 has 3 fields"),
        ('a,b\n1,"x\ny"\n3,4,5\n', "line 4 has 3 fields"),
        ('a,b\n1,2\n3,"open\n4,5\n6,7\n', "line 3: a quote is not closed"),
        ('a,b\n1,"open\n2,"shut\n3,4\n', "line 2: a quote is not closed, or text follows"),
        ('a,b\n1,2\n3,"open\n', "line 3: a quote is not closed"),
        ('a,b\n1,2\n3,"open', "line 3: a quote is not closed"),
        (b"a,b\n1,2\n3,caf\xe9\n", "line 3 is not UTF-8: it has the byte 0xe9"),
        ("a,b\n1,2\n".encode("utf-16"), "line 1 is not UTF-8"),
        ("a,,c\n1,2,3\n", "column 2 has no name"),
        ("a,b,a\n1,2,3\n", "'a' is there twice"),
    ],
)
def test_broken_files_name_the_line(text: str | bytes, found: str) -> None:
    with pytest.raises(Invalid, match=found):
        rows(text)


def test_a_message_shows_no_value() -> None:
    with pytest.raises(Invalid) as caught:
        rows("name,b\njane.doe@example.org\n")
    assert "jane" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_long_quoted_field_is_read() -> None:
    text = "x\n" * 200_000
    assert rows(f'a,b\n1,"{text}"\n') == [{"a": "1", "b": text}]
