"""Experts: opened by headers, never read until a plan says so."""

from omnicompose.experts.inspection import Inspection, inspect_source
from omnicompose.experts.opening import open_base, open_expert

__all__ = ["Inspection", "inspect_source", "open_base", "open_expert"]
