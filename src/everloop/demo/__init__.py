"""The marketplace example: `everloop demo` shows the whole loop closing on it.

Answers: does all of everloop work together, as a user's own project would use it? It imports nothing of everloop but
the root package. `tell_story` tells the story stage by stage on a real server, and judges each stage by the records.
`generate` writes the simulated marketplace, which stands in where no real listings are given, and
`tell_simulated_story` tells the story on it.
"""

from everloop.demo.marketplace import generate, is_simulated
from everloop.demo.simulated import tell_simulated_story
from everloop.demo.story import StoryFailed, tell_story

__all__ = ["StoryFailed", "generate", "is_simulated", "tell_simulated_story", "tell_story"]
