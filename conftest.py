"""Pytest: the three root views are links to rooms inside the package; nothing imports through them."""

collect_ignore = ["encoders", "connectors", "evaluation"]
