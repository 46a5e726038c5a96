"""A real Chromium for the page tests: Debian's or the user's own, driven by playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.needs import missing

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
# Root needs --no-sandbox; the rest keeps it from calling home, which a closed network refuses many times a second.
OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser with an empty profile."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        missing("browser", f"none of {', '.join(NAMES)} is on PATH; on Debian: apt-get install chromium")
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  (0.3 s that only page tests need)

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, headless=True, args=list(OPTIONS))
        try:
            yield browser
        finally:
            browser.close()
