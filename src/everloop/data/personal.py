"""Finds values that look like personal data: e-mail addresses, phone numbers, payment cards, IBANs.

Patterns with validators, no language model: it finds what is written in its usual form and says how often, per
column. It is a warning, not a proof of absence. Names and addresses are not looked for.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Literal

import pyarrow as pa

from everloop.data.arrow import AnyArray, one_array
from everloop.data.arrow import compute as pc
from everloop.data.records import Schema

Kind = Literal["email", "phone", "card", "iban"]

# One pass of RE2 over the whole column; Python looks only at what passes: an @, eight digits with at most two
# separators between neighbours, or the beginning of an IBAN.
_CANDIDATE = r"@|\d(?:[ .()/-]{0,2}\d){7}|[A-Z]{2}\d{2} ?[A-Z0-9]{4}"

_EMAIL = re.compile(r"[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}")
_CARD = re.compile(r"(?<![\d-])\d(?:[ -]?\d){12,18}(?![\d-])")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b")
# International, or national with an area code set apart: bare digits are mostly product numbers.
_PHONE = re.compile(r"(?<![\w+])(?:\+\d{1,3}[ ./-]?|\(0?\d{2,5}\) ?|0\d{1,4}[ /-])\d(?:[ .-]?\d){5,11}(?!\w)")

# Issuers by the first digits (ISO/IEC 7812) and the lengths that they use. Luhn alone passes one number in ten.
_ISSUERS = re.compile(
    r"4\d{12}(?:\d{3}){0,2}|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}"
    r"|3(?:0[0-5]|[68]\d)\d{11}|6(?:011|5\d\d|4[4-9]\d)\d{12}|35(?:2[89]|[3-8]\d)\d{12}"
)


def personal_data(rows: pa.Table, schema: Schema) -> dict[str, dict[str, int]]:
    """For each text column that has some, how many rows hold each kind; columns without any are left out."""
    found = {
        column.name: personal_kinds(one_array(rows[column.name]))
        for column in schema.columns
        if column.type == "string" and column.name in rows.column_names
    }
    return {name: kinds for name, kinds in found.items() if kinds}


def personal_kinds(text: AnyArray) -> dict[str, int]:
    """How many of the values hold each kind."""
    candidates = text.filter(pc.fill_null(pc.match_substring_regex(text, _CANDIDATE), False))
    counts = Counter[str]()
    for value in candidates.to_pylist():
        counts.update(kinds_in(str(value)))
    return dict(sorted(counts.items()))


def kinds_in(value: str) -> set[Kind]:
    """Which kinds of personal data a text holds.

    Examples
    --------
    >>> sorted(kinds_in("call +44 20 7946 0958 or write to jo@example.org"))
    ['email', 'phone']
    >>> kinds_in("order 4111 1111 1111 1112")
    set()
    """
    found: set[Kind] = set()
    if _EMAIL.search(value):
        found.add("email")
    if any(_is_card(match.group()) for match in _CARD.finditer(value)):
        found.add("card")
    if any(_is_iban(match.group()) for match in _IBAN.finditer(value)):
        found.add("iban")
    if _PHONE.search(value) and not found & {"card", "iban"}:
        found.add("phone")
    return found


def masked(value: str) -> str:
    """The text with what looks like personal data cut out.

    Examples
    --------
    >>> masked("call +44 20 7946 0958 or write to jo@example.org")
    'call [phone] or write to [email]'
    >>> masked("order 4111 1111 1111 1112")
    'order 4111 1111 1111 1112'
    """
    text = _EMAIL.sub("[email]", value)
    text = _CARD.sub(lambda match: "[card]" if _is_card(match.group()) else match.group(), text)
    text = _IBAN.sub(lambda match: "[iban]" if _is_iban(match.group()) else match.group(), text)
    return _PHONE.sub("[phone]", text)


def _is_card(text: str) -> bool:
    digits = re.sub(r"[ -]", "", text)
    return _ISSUERS.fullmatch(digits) is not None and _luhn(digits)


def _luhn(digits: str) -> bool:
    """The check digit of ISO/IEC 7812-1, annex B."""
    doubled = (int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits)))
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0


def _is_iban(text: str) -> bool:
    """ISO 13616: the number, moved by four places and read in base 36 digit by digit, is 1 modulo 97."""
    plain = text.replace(" ", "")
    if not 15 <= len(plain) <= 34:
        return False
    return int("".join(str(int(sign, 36)) for sign in plain[4:] + plain[:4])) % 97 == 1
