"""The pages as axe sees them: contrast, names, headings, tables, landmarks."""

from __future__ import annotations

from typing import Literal

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page

from everloop import feedback, rollout
from tests.web.conftest import Site

pytestmark = pytest.mark.browser

_LOOKS: dict[Literal["light", "dark"], str] = {"light": "{}", "dark": "{runOnly: ['color-contrast']}"}


def test_no_page_has_a_serious_fault_in_light_or_dark_or_asks_what_its_policy_refuses(
    page: Page, story: Site
) -> None:
    (running,) = rollout.rollouts(story.ws, states=("running",))
    answered = feedback.corrections(story.ws, "kind", limit=1)[0].prediction_id
    paths = [
        *("/", "/endpoints/kind", f"/rollouts/{running.id}", "/endpoints/kind/plan?version=kind@3"),
        *(
            "/endpoints/kind/split",
            "/endpoints/kind/predictions",
            "/endpoints/kind/try",
            f"/trace/{answered}",
        ),
        *("/models", "/models/kind", "/models/kind/3", "/pipelines", "/pipelines/runs", "/experiments"),
        *("/review", "/audit", "/calendar", "/triggers", "/rows/goods:7", "/search?q=kind", "/nothing"),
    ]
    found: dict[str, list[str]] = {}
    refused: list[str] = []  # by the policy of our own pages
    page.on("console", lambda line: refused.append(line.text) if "Security Policy" in line.text else None)
    for path in paths:
        page.goto(f"{story.url}{path}")
        page.evaluate(AXE_SCRIPT)
        for scheme, rules in _LOOKS.items():
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            for fault in page.evaluate(f"axe.run({rules}).then(found => found.violations)"):
                if fault["impact"] in ("serious", "critical"):
                    seen = [f"{node['target']}: {node['failureSummary']}" for node in fault["nodes"]]
                    found[f"{path} in {scheme}: {fault['id']}"] = seen
    assert (found, refused) == ({}, [])
