"""Plans: what becomes of every tensor, decided before any is read."""

from omnicompose.plan.make_plan import CompositePlan, make_plan
from omnicompose.plan.merge_plan import MergePlan, make_merge_plan
from omnicompose.plan.plan import Entry, Plan
from omnicompose.plan.render import render_plan

__all__ = [
    "CompositePlan",
    "Entry",
    "MergePlan",
    "Plan",
    "make_merge_plan",
    "make_plan",
    "render_plan",
]
