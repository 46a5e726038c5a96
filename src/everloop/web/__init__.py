"""The pages that people see: what is asked of the loop, answered in a browser, with a click to act on it.

Answers: is the loop healthy and what needs a person (`/`), what is live and why (`/endpoints/NAME`, `/rollouts/ID`),
what happened in this run (`/pipelines/runs/ID`), what differs between two (`/compare`), what fires when (`/calendar`),
where does this come from (`/trace/ID`), may this version go live (`/models/NAME/VERSION`, `/gates/ID`), who is right
(`/review`), who did what (`/audit`). Owns no table. A page reads the same verbs as the JSON routes, draws from bounded questions
and shows the same record as JSON at its own address with `?as=json`; acts go through the JSON routes. Templates escape
everything, no script and no style stands in a page, and a strict Content-Security-Policy says so to the browser.
May call api (through its `__init__`) and the rooms below.
"""

from everloop.web.pages import Page, all_pages, error_handlers, routes

__all__ = ["Page", "all_pages", "error_handlers", "routes"]
