"""Outside systems: one file for each, which is one extra of the package and the only place that imports it.

Answers nothing by itself and owns no table: an adapter fits an outside system to a port of the room that owns it, and is
registered there as an entry point, so that the room finds it by name and never imports it. What is not installed is an
error that names the extra. May call all rooms below.
"""
