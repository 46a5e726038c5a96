from __future__ import annotations

import pyarrow as pa
import pytest

from everloop.data.personal import kinds_in, personal_data, personal_kinds
from everloop.data.records import Column, Schema


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("write to jo.doe+shop@mail.example.co.uk today", "email"),
        ("ring +44 20 7946 0958", "phone"),
        ("Tel.: (030) 901820-12", "phone"),
        ("0171 1234567", "phone"),
        ("+1-202-555-0143", "phone"),
        ("paid with 4111 1111 1111 1111", "card"),
        ("5555555555554444", "card"),
        ("amex 3782-822463-10005", "card"),
        ("DE89 3704 0044 0532 0130 00", "iban"),
        ("to GB82WEST12345698765432 please", "iban"),
    ],
)
def test_what_is_found(text: str, kind: str) -> None:
    assert kinds_in(text) == {kind}


@pytest.mark.parametrize(
    "text",
    [
        "samsung galaxy s8 64gb black",
        "lg 55uk6300plb 4k 2018",
        "ean 4006381333931",
        "order 4111 1111 1111 1112",
        "1234 5678 9012 3452",
        "GB82WEST12345698765433",
        "2026-09-01 10:00:00",
        "ip 192.168.100.100",
        "user@host",
        "@home 12345678",
        "size 10-20-30 cm",
        "canon eos 5d mark iv 24-105mm f4",
        "",
    ],
)
def test_what_is_not(text: str) -> None:
    assert kinds_in(text) == set()


def test_rows_are_counted_by_kind() -> None:
    text = pa.array(["a@example.org b@example.org", "a@example.org +1-202-555-0143", None, "x"])
    assert personal_kinds(text) == {"email": 2, "phone": 1}


def test_columns_without_any_are_left_out() -> None:
    schema = Schema((Column("a", "string"), Column("b", "string"), Column("n", "integer")), None)
    rows = pa.table({"a": ["a@example.org"], "b": ["x"], "n": [4111111111111111]})
    assert personal_data(rows, schema) == {"a": {"email": 1}}
