"""Templates and the headers that every page carries."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any
from urllib.parse import quote

import jinja2
from starlette.responses import Response

from everloop.web import words

VERSION = version("everloop")
# What a browser may load: our own files and nothing else, no inline script, no inline style.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'{styles}; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# plotly.js adds one empty <style> element and fills it by script, which the policy does not mind: this is the digest
# of the empty text. It needs neither 'unsafe-inline' nor 'unsafe-eval'.
_EMPTY_STYLE = " 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"


def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("everloop.web"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for filter_ in (
        words.ago,
        words.count,
        words.duration,
        words.gist,
        words.items_with,
        words.middle_cut,
        words.milliseconds,
        words.moment,
        words.number,
        words.percent,
        words.place_of,
        words.said,
        words.seconds,
        words.short,
        words.size,
    ):
        made.filters[filter_.__name__] = filter_
    made.filters["path"] = lambda text: quote(str(text), safe="@:/")
    made.globals["static"] = f"/static/{VERSION}"
    return made


_templates = _environment()


def page_answer(template: str, *, status: int = 200, plots: bool = False, **context: Any) -> Response:
    """A page from a template and what it shows."""
    text = _templates.get_template(template).render(plots=plots, **context)
    return Response(text, status, headers=headers(plots=plots), media_type="text/html")


def headers(*, plots: bool = False) -> dict[str, str]:
    """What a browser is told about every answer with a page in it."""
    return {
        "Content-Security-Policy": _POLICY.format(styles=_EMPTY_STYLE if plots else ""),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cache-Control": "no-store",
    }
