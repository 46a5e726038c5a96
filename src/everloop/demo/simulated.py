"""The story for a machine that has no listings: on a marketplace that is made for it first."""

from __future__ import annotations

from pathlib import Path

from everloop.demo.acts import Say
from everloop.demo.marketplace import FAST_FIGURES, FIGURES, generate
from everloop.demo.story import LOOPS, need_unused, tell_story


def tell_simulated_story(home: Path, *, say: Say, fast: bool = False, seed: int = 7) -> None:
    """Make a marketplace in `home`, tell the story on it, and judge it by the marketplace's own figures.

    `fast` makes a third of the listings.

    Raises
    ------
    StoryFailed
        A stage did not happen.
    """
    need_unused(home)
    data = home / "marketplace"
    say("No listings were given, so these are SIMULATED: no seller, product, text or picture here is real.")
    made: list[str] = []

    def tell(name: str, done: int, total: int) -> None:
        if name not in made:
            made.append(name)
            say(f"   {done:>6,} of {total:,} listings written and drawn: {name}")

    generate(data, seed=seed, fast=fast, on_progress=tell)
    figures = FAST_FIGURES if fast else FIGURES
    tell_story(home, say=say, data=data, figures=figures, loop_file=LOOPS / "simulated.py")
