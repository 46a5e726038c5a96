from __future__ import annotations

from hypothesis import settings

# A time limit per example says how busy the machine is, not whether the code is right.
settings.register_profile("without deadline", deadline=None)
settings.load_profile("without deadline")
