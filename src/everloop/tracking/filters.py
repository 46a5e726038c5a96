"""MLflow's language of filters and orders: `metrics.acc > 0.9 AND tags."team" LIKE 'vis%'`, read into conditions.

Conditions are joined by AND alone. A key is an attribute or `kind.name`; kind and name may be in backquotes or double
quotes. Numbers are plain, texts are in single or double quotes, lists are `IN ('a', 'b')`. Reading takes time in
proportion to the text, whatever its bytes, and knows nothing of tables: `queries` turns conditions into SQL.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

from everloop.errors import Invalid
from everloop.tracking.records import shown

Kind = Literal["attribute", "metric", "param", "tag", "dataset", "metadata"]
Value = str | int | float | tuple[str, ...] | None

_KINDS: dict[str, Kind] = {
    "attribute": "attribute", "attributes": "attribute", "attr": "attribute", "run": "attribute",
    "trace": "attribute",
    "metric": "metric", "metrics": "metric",
    "param": "param", "params": "param", "parameter": "param", "parameters": "param",
    "tag": "tag", "tags": "tag",
    "dataset": "dataset", "datasets": "dataset",
    "metadata": "metadata", "request_metadata": "metadata",
}  # fmt: skip
_NUMERIC = frozenset({"=", "!=", "<", "<=", ">", ">="})
_TEXTUAL = frozenset({"=", "!=", "LIKE", "ILIKE"})
_LISTS = frozenset({"IN", "NOT IN"})
_PRESENCE = frozenset({"IS NULL", "IS NOT NULL"})

_MOST_CHARACTERS = 200_000
_MOST_CONDITIONS = 40  # each may be a join, and SQLite joins 64 tables at most
_MOST_ORDERS = 20
_TOKEN = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<op><=|>=|!=|=|<|>)"
    r"|(?P<mark>[(),])"
    r"|(?P<quoted>'(?:[^'\\]|''|\\.)*'|\"(?:[^\"\\]|\"\"|\\.)*\"|`[^`]*`)"
    r"|(?P<word>[^\s'\"`<>=!(),]+)",
    re.DOTALL,
)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)


@dataclass(frozen=True)
class Grammar:
    """What may be asked of one noun: its attributes, which hold texts or numbers, and the kinds of named values.

    `aliases` are other names of attributes.
    """

    texts: Collection[str]
    numbers: Collection[str]
    kinds: Collection[Kind]
    aliases: Mapping[str, str] = field(default_factory=dict)
    dataset_texts: Collection[str] = ()


@dataclass(frozen=True)
class Key:
    kind: Kind
    name: str


@dataclass(frozen=True)
class Condition:
    """`operator` is one of = != < <= > >= LIKE ILIKE IN `NOT IN` `IS NULL` `IS NOT NULL`."""

    key: Key
    operator: str
    value: Value = None


@dataclass(frozen=True)
class Order:
    key: Key
    is_descending: bool = False


def parse_filter(text: str | None, grammar: Grammar) -> list[Condition]:
    """The conditions of a filter, which all have to hold. Raises Invalid for anything else."""
    if not text or not text.strip():
        return []
    reader = _Reader(text, grammar)
    conditions = [reader.condition()]
    while not reader.is_done:
        reader.keyword("AND")
        conditions.append(reader.condition())
        if len(conditions) > _MOST_CONDITIONS:
            raise Invalid(
                f"the filter has more than {_MOST_CONDITIONS} conditions, which is the most. Ask with fewer."
            )
    return conditions


def parse_orders(texts: Collection[str], grammar: Grammar) -> list[Order]:
    """What to order by, first things first: `metrics.loss ASC`. Raises Invalid for anything else."""
    if len(texts) > _MOST_ORDERS:
        raise Invalid(f"there are {len(texts)} things to order by; {_MOST_ORDERS} is the most. Name fewer.")
    orders = [_Reader(text, grammar).order() for text in texts]
    if len({order.key for order in orders}) < len(orders):
        raise Invalid(f"the order {list(texts)} names a thing twice. Name each once.")
    return orders


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    start: int
    end: int


class _Reader:
    """Reads one text from its beginning to its end."""

    def __init__(self, text: str, grammar: Grammar) -> None:
        if len(text) > _MOST_CHARACTERS:
            raise Invalid(
                f"the filter has {len(text):,} characters; {_MOST_CHARACTERS:,} is the most. Ask in parts."
            )
        if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
            raise Invalid("the filter holds characters that no name or value has. Write it as plain text.")
        self._text = text
        self._grammar = grammar
        self._tokens = self._cut()
        self._at = 0

    @property
    def is_done(self) -> bool:
        return self._at == len(self._tokens)

    def condition(self) -> Condition:
        key = self._key()
        operator = self._operator()
        self._check(key, operator)
        if operator in _PRESENCE:
            return Condition(key, operator)
        if operator in _LISTS:
            return Condition(key, operator, self._list())
        return Condition(key, operator, self._number() if self._is_number(key) else self._quoted())

    def order(self) -> Order:
        key = self._key()
        if key.kind == "dataset":
            raise self._wrong("runs have several datasets and cannot be ordered by them")
        direction = "ASC" if self.is_done else self._next("word").text.upper()
        if direction not in ("ASC", "DESC") or not self.is_done:
            raise self._wrong("after the key comes ASC or DESC")
        return Order(key, direction == "DESC")

    def keyword(self, word: str) -> None:
        token = self._next("word")
        if token.text.upper() != word:
            self._at -= 1
            raise self._wrong(f"conditions are joined by {word} alone")

    def _cut(self) -> list[_Token]:
        tokens: list[_Token] = []
        at = 0
        while at < len(self._text):
            match = _TOKEN.match(self._text, at)
            if match is None:
                raise Invalid(
                    f"the filter cannot be read at {self._text[at : at + 40]!r}: a quote is not closed, or a sign has no "
                    "meaning. Write for example: metrics.acc > 0.9 AND tags.team = 'vision'"
                )
            if match.lastgroup != "space":
                tokens.append(_Token(str(match.lastgroup), match.group(), match.start(), match.end()))
            at = match.end()
        return tokens

    def _key(self) -> Key:
        pieces = [self._next("word", "quoted")]
        while not self.is_done and self._tokens[self._at].start == pieces[-1].end:
            if self._tokens[self._at].kind not in ("word", "quoted"):
                break
            pieces.append(self._next("word", "quoted"))
        # the dot that ends the kind stands outside quotes: it is the first of the first plain piece that has one
        before, after = "", ""
        has_dot = False
        for piece in pieces:
            text = piece.text if piece.kind == "word" else _unquoted(piece.text)
            if has_dot:
                after += text
            elif piece.kind == "word" and "." in text:
                head, _, after = text.partition(".")
                before, has_dot = before + head, True
            else:
                before += text
        kind, name = (_KINDS.get(before), after) if has_dot else ("attribute", before)
        if kind is None or kind not in self._grammar.kinds:
            raise self._wrong(
                f"{before[:40]!r} is no kind of thing; the kinds are {', '.join(self._grammar.kinds)}"
            )
        return self._known(Key(kind, name))

    def _known(self, key: Key) -> Key:
        grammar = self._grammar
        if key.kind == "attribute":
            name = grammar.aliases.get(key.name, key.name)
            if name not in grammar.texts and name not in grammar.numbers:
                known = ", ".join(sorted((*grammar.texts, *grammar.numbers)))
                raise self._wrong(f"{key.name[:40]!r} is no attribute; the attributes are {known}")
            return Key("attribute", name)
        if key.kind == "dataset" and key.name not in grammar.dataset_texts:
            raise self._wrong(f"a dataset is asked for by {', '.join(grammar.dataset_texts)}")
        if not key.name:
            raise self._wrong(f"after {key.kind}. comes a name")
        return key

    def _operator(self) -> str:
        token = self._next("op", "word")
        word = token.text.upper()
        if word == "NOT":
            self.keyword("IN")
            return "NOT IN"
        if word == "IS":
            following = self._next("word").text.upper()
            if following == "NOT":
                self.keyword("NULL")
                return "IS NOT NULL"
            if following == "NULL":
                return "IS NULL"
            raise self._wrong("after IS comes NULL or NOT NULL")
        return word

    def _check(self, key: Key, operator: str) -> None:
        if self._is_number(key):
            allowed = _NUMERIC
        elif key.kind in ("param", "tag", "metadata"):
            allowed = _TEXTUAL | _PRESENCE
        else:
            allowed = _TEXTUAL | _LISTS
        if operator not in allowed:
            raise self._wrong(
                f"{operator[:20]!r} does not compare {key.kind} {key.name[:40]!r}; what does is {', '.join(sorted(allowed))}"
            )

    def _is_number(self, key: Key) -> bool:
        return key.kind == "metric" or (key.kind == "attribute" and key.name in self._grammar.numbers)

    def _number(self) -> int | float:
        token = self._next("word")
        if _NUMBER.fullmatch(token.text) is None or len(token.text) > 400:
            self._at -= 1
            raise self._wrong("a number is compared with a number, without quotes")
        try:
            return int(token.text)
        except ValueError:
            return float(token.text)

    def _quoted(self) -> str:
        token = self._next("quoted")
        if token.text.startswith("`"):
            self._at -= 1
            raise self._wrong("a text is in single or double quotes")
        return _unquoted(token.text)

    def _list(self) -> tuple[str, ...]:
        self._mark("(")
        found = [self._quoted()]
        while self._mark(",", ")") == ",":
            found.append(self._quoted())
        return tuple(found)

    def _mark(self, *marks: str) -> str:
        token = self._next("mark")
        if token.text not in marks:
            self._at -= 1
            raise self._wrong("a list is written ('a', 'b')")
        return token.text

    def _next(self, *kinds: str) -> _Token:
        if self.is_done:
            raise self._wrong("it ends too early")
        token = self._tokens[self._at]
        if token.kind not in kinds:
            raise self._wrong("something else is expected here")
        self._at += 1
        return token

    def _wrong(self, rule: str) -> Invalid:
        start = self._tokens[self._at].start if not self.is_done else len(self._text)
        return Invalid(
            f"the filter or order {shown(self._text)} is wrong at {shown(self._text[start:])}: {rule}. "
            "Write for example: metrics.acc > 0.9 AND tags.team = 'vision'"
        )


def _unquoted(text: str) -> str:
    quote, inside = text[0], text[1:-1]
    if quote == "`":
        return inside
    return inside.replace(quote * 2, quote).replace("\\" + quote, quote)
