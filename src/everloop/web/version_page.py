"""`/models/NAME/VERSION`: may this version go live: its gates with their numbers, what stands in the way, who decided."""

from __future__ import annotations

from everloop import governance, registry, rollout
from everloop.errors import NotFound
from everloop.web.gate_page import report_shown
from everloop.web.visits import Shown, Visit


def view(visit: Visit) -> Shown:
    ref = f"{visit.path['model']}@{visit.path['number']}"
    if not visit.path["number"].isdigit():
        raise NotFound(f"{ref!r} is not a model version; one is written category@2.")
    card = governance.version_card(visit.ws, ref)
    version = card["version"]
    model = registry.model(visit.ws, version.model)
    report = card["gate_report"]
    live = [one for one in rollout.endpoints(visit.ws) if any(it.version == ref for it in one.variants)]
    on = [one for one in rollout.endpoints(visit.ws) if one.model == version.model]
    pointers = [
        *registry.stages(visit.ws, model.name).items(),
        *registry.aliases(visit.ws, model.name).items(),
    ]
    return {
        **card,
        "names": [word for word, number in pointers if number == version.number],
        "model": model,
        "gates": None if report is None else report_shown(visit.ws, report.id),
        "live_on": [one.name for one in live],
        "would_serve": [
            {"endpoint": one.name, "steps": one.canary.steps, "has_live": bool(one.variants)} for one in on
        ],
        "others_live": sorted({it.version for one in on for it in one.variants} - {ref}),
        "is_author": version.author == visit.principal.name,
    }
