"""How numbers, times and names are said on pages: filters of the templates."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

from everloop.errors import Invalid
from everloop.ids import prefix_of

_DAY_S = 86_400
_RAISED = re.compile(r"[A-Za-z_][\w.]*(: |$)")
_ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?\+00:00")


def ago(at: datetime, now: datetime) -> str:
    """A time as a person says it: relative within a day, absolute beyond.

    >>> from datetime import timezone
    >>> now = datetime(2026, 10, 28, 14, 2, tzinfo=timezone.utc)
    >>> ago(datetime(2026, 10, 28, 13, 59, tzinfo=timezone.utc), now)
    '3 min ago'
    >>> ago(datetime(2026, 10, 28, 16, 2, tzinfo=timezone.utc), now)
    'in 2 h'
    >>> ago(datetime(2026, 10, 3, 9, 5, tzinfo=timezone.utc), now)
    '3 Oct 09:05'
    """
    seconds = (now - at).total_seconds()
    if abs(seconds) < 45:
        return "now" if seconds > -1 else "in a moment"
    if abs(seconds) < _DAY_S:
        amount = duration(timedelta(seconds=abs(seconds)))
        return f"{amount} ago" if seconds > 0 else f"in {amount}"
    return f"{at.day} {at:%b %H:%M}" if at.year == now.year else f"{at.day} {at:%b %Y}"


def moment(at: datetime, start: datetime, end: datetime) -> str:
    """A time as an axis from `start` to `end` says it.

    >>> from datetime import timezone
    >>> first, last = datetime(2026, 9, 1, tzinfo=timezone.utc), datetime(2026, 9, 3, tzinfo=timezone.utc)
    >>> moment(datetime(2026, 9, 2, 9, 5, tzinfo=timezone.utc), first, last)
    '2 Sep 09:05'
    >>> moment(first, datetime(2025, 9, 1, tzinfo=timezone.utc), last)
    '1 Sep 2026'
    """
    if end - start < timedelta(days=5):
        return f"{at.day} {at:%b %H:%M}"
    return f"{at.day} {at:%b}" if start.year == end.year else f"{at.day} {at:%b %Y}"


def duration(length: timedelta) -> str:
    """One number and one unit.

    >>> duration(timedelta(seconds=7.2)), duration(timedelta(minutes=90)), duration(timedelta(days=9))
    ('7.2 s', '1.5 h', '9 d')
    """
    seconds = length.total_seconds()
    for unit, size, least in (("d", _DAY_S, 1.5), ("h", 3_600, 0.99), ("min", 60, 0.99)):
        amount = seconds / size
        if amount >= least:
            return f"{amount:.2g} {unit}" if unit == "h" and amount < 9.5 else f"{amount:.0f} {unit}"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


def count(n: float) -> str:
    """
    >>> count(3012), count(41_230), count(4_123_000)
    ('3,012', '41.2 k', '4.12 M')
    """
    if n < 10_000:
        return f"{n:,.0f}"
    return f"{n / 1e3:.3g} k" if n < 999_500 else f"{n / 1e6:.3g} M"


def percent(share: float | None) -> str:
    """
    >>> percent(0.0123), percent(0.9142), percent(0.0), percent(0.00004), percent(None)
    ('1.2 %', '91.4 %', '0 %', '0.004 %', 'not known')
    """
    if share is None:
        return "not known"
    value = 100 * share
    if abs(value) < 0.0005 or abs(value) >= 99.95:
        return f"{value:.0f} %"
    return f"{value:.1f} %" if abs(value) >= 1 else f"{value:.1g} %"


def milliseconds(value: float | None) -> str:
    """
    >>> milliseconds(12.34), milliseconds(0.4312), milliseconds(2400.0), milliseconds(None)
    ('12.3 ms', '0.431 ms', '2.4 s', 'not known')
    """
    if value is None:
        return "not known"
    return f"{value:.3g} ms" if value < 1_000 else f"{value / 1_000:.3g} s"


def seconds(value: float) -> str:
    """
    >>> seconds(0.0), seconds(0.00042), seconds(0.0421), seconds(7.24), seconds(252.0), seconds(9000.0)
    ('0 s', '0.42 ms', '42 ms', '7.2 s', '4 min 12 s', '2.5 h')
    """
    if value == 0:
        return "0 s"
    if value < 0.9995:
        return f"{1_000 * value:.2g} ms" if value < 0.1 else f"{1_000 * value:.0f} ms"
    if 60 <= value < 3_570:
        return f"{value // 60:.0f} min {value % 60:.0f} s"
    return duration(timedelta(seconds=value))


def size(n: int) -> str:
    """
    >>> size(812), size(48_100), size(5_200_000)
    ('812 bytes', '48.1 kB', '5.2 MB')
    """
    for unit, amount in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n >= amount:
            return f"{n / amount:.3g} {unit}"
    return f"{n} bytes"


def middle_cut(text: str, most: int) -> str:
    """A text of at most so many characters, its middle left out: names often differ at their ends.

    >>> middle_cut("extract_features_of_images-12", 20), middle_cut("fit", 20)
    ('extract_fea…mages-12', 'fit')
    """
    if len(text) <= most:
        return text
    kept = max(2, most - 1)
    tail = kept * 2 // 5 + 1
    return f"{text[: kept - tail]}…{text[-tail:]}"


def gist(error: str) -> str:
    """What an error says without its traceback: the words before it, and the line that names what was raised.

    >>> gist("step fit failed: Traceback (most recent call last):\\n  File ...\\nValueError: no rows")
    'step fit failed: ValueError: no rows'
    """
    before, is_there, trace = error.partition("Traceback (most recent call last)")
    lines = trace.strip().splitlines()
    named = [one for one in lines if _RAISED.match(one)]
    return f"{before}{(named or lines)[-1]}" if is_there else error


def items_with(given: dict[str, str], name: str, value: str) -> list[tuple[str, str]]:
    """What stands in an address, with one of it changed and what is empty left out; another order begins anew.

    >>> items_with({"state": "failed", "order": "", "after": "run_1"}, "order", "longest")
    [('state', 'failed'), ('order', 'longest')]
    """
    changed = {**given, "after": "", name: value}
    return [(key, one) for key, one in changed.items() if one]


def number(value: Any) -> str:
    """A number to four figures; everything else as it is.

    >>> number(0.83719), number(1204), number(35_678.9), number(True), number("a")
    ('0.8372', '1,204', '35,680', 'yes', 'a')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if not isinstance(value, float):
        return str(value)
    return f"{float(f'{value:.4g}'):,.0f}" if 1e3 <= abs(value) < 1e7 else f"{value:.4g}"


def short(identifier: str) -> str:
    """An id as it is shown: what it is and the end of it, which differs most; a digest's beginning.

    >>> short("pred_019ab3d27c3a7000a1b2c3d4e5f60718"), short("category@2"), short("9f" * 32)
    ('pred_…e5f60718', 'category@2', '9f9f9f9f9f9f')
    """
    try:
        return f"{prefix_of(identifier)}_…{identifier[-8:]}"
    except Invalid:
        is_digest = len(identifier) == 64 and all(one in "0123456789abcdef" for one in identifier)
        return identifier[:12] if is_digest else identifier


def said(text: str, now: datetime) -> str:
    """A sentence with its machine-written times said as people say them.

    >>> from datetime import timezone
    >>> said("cooling down until 2026-10-21T00:00:00+00:00: no", datetime(2026, 10, 20, 1, tzinfo=timezone.utc))
    'cooling down until 21 Oct 00:00: no'
    """

    def shown(match: re.Match[str]) -> str:
        at = datetime.fromisoformat(match[0])
        return f"{at.day} {at:%b %H:%M}" if at.year == now.year else f"{at.day} {at:%b %Y}"

    return _ISO.sub(shown, text)


def place_of(identifier: str, kind: str = "") -> str | None:
    """The page about a thing, None when there is none.

    >>> place_of("category@2", "model_version"), place_of("listings@3"), place_of("9f" * 32)
    ('/models/category/2', '/trace/listings@3', None)
    """
    name, at, which = identifier.rpartition("@")
    is_version = bool(at) and which.isdigit()
    if kind == "model_version" and is_version:
        return f"/models/{name}/{which}"
    if kind == "endpoint":
        return f"/endpoints/{identifier}"
    if kind == "row":
        return f"/rows/{identifier}"
    if identifier.startswith("ro_"):
        return f"/rollouts/{identifier}"
    if identifier.startswith("run_"):
        return f"/runs/{identifier}"  # which leads on to the steps of a pipeline's run
    if identifier.startswith("srch_"):
        return f"/searches/{identifier}"
    if identifier.startswith("pred_") or (is_version and kind in ("", "dataset_version")):
        return f"/trace/{identifier}"
    return None
