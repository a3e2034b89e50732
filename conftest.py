"""Pytest: the three root views are links into the package; nothing imports through them."""

collect_ignore = ["encoders", "connectors", "evaluation"]
